"""Records in and out: files, and the operator's own platform."""

"""The operator's platform: what it shows us, and what it has still to be told."""

"""One file a version, numbered; each goes up and down."""

"""A market from its opening to its approval."""

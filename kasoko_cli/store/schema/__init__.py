"""Every table, and its column types."""

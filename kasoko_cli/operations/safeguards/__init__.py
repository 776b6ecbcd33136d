"""What stands before every way out to money."""

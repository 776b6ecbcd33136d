"""The deployment: set up, checked, copied, watched over."""

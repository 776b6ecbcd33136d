"""What an operator does, one module a subject; each function names in its signature all that it touches."""

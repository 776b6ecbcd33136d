"""The shell: parse, call one operation, render."""

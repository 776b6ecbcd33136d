"""Read-only answers: how everything stands, and what finance asks for."""

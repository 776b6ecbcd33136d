"""What nobody thought of: bodies and requests that chance and coverage find."""

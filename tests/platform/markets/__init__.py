"""What is bet on."""

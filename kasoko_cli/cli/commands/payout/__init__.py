"""What is paid, and what M-Pesa says of it."""

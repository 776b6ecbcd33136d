"""Results that M-Pesa posts: written down, verified, applied."""

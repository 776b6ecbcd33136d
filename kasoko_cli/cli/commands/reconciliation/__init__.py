"""Commands that find out how payments ended: what M-Pesa posts, what it is asked, and its statements."""

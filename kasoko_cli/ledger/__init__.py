"""The books: every movement of money as a balanced entry."""

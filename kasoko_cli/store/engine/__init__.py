"""The database itself: connections, transactions, locks, bulk rows, digests."""

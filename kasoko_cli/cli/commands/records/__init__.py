"""People, bets, wallets, tax, and records in and out."""

"""Markets, bets, users and wallets."""

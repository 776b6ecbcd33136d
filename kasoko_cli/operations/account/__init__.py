"""The account with M-Pesa: which one pays, its balances, its access token, what it charges."""

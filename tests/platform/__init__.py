"""A small Django project as an operator has one, for tests: users, markets and bets of its own."""

"""The deployment itself: copies of the database, checks before the first payout, services, the demo."""

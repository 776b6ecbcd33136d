"""Commands that pay what is owed: show, send, hold, retry, decide."""

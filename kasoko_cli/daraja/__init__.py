"""All HTTP, and all of Safaricom's spelling."""

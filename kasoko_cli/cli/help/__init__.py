"""Help pages, topics, manual pages and completion."""

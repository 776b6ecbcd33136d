"""From what is owed to the request that pays it: plan, claim, send, record, and what a person decides."""

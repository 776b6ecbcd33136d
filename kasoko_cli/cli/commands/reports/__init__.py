"""What is looked at: reports, the audit, events, monitoring."""

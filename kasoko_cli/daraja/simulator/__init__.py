"""The other side of the wire: a Daraja that pays out of its own ledger."""

"""The rooms of sending: claim, send, record, tell. `operations/disburse.py` is their door."""

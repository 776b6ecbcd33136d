"""Safaricom's public certificates, one an environment.

Both expired years ago (2016 and 2018), which does not matter: only the key in them is used, and
the gateway still decrypts with its other half. `credentials.FINGERPRINTS` says which files they are.
"""

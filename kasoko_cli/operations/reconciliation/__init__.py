"""How unknown payments ended: by status queries, by M-Pesa's statement, and after a restore."""

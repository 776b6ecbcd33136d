"""Every table, its column types, and the version that the program was written for."""

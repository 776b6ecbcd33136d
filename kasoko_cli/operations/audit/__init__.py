"""Everything that must always hold, recomputed from the rows themselves."""

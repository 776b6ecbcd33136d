"""From a resolved market to what is owed to each winner, and how to prove and to correct it."""

"""One file a command or noun: words in, one operation called, its answer shown."""

"""What machines watch: figures, rules over them, and who is told."""

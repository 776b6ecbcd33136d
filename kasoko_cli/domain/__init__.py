"""The rules of the game: pure, with no input, output, clock or chance."""

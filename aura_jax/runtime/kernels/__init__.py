"""Faster replacements of the model's layers, which compute the same function."""

"""Faster replacements for the model's layers, which compute the same functions."""

"""Checkpoints: what a file holds, its names and shapes, strict loading and saving."""

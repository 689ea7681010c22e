"""Checkpoints: open a file, check its names and shapes, load and save models strictly."""

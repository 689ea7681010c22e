"""Find, read, crop, draw and write images."""

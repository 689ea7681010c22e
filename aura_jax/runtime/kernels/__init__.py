"""Faster layers that compute the same."""

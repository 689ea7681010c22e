"""Measurements that are too large for tests: python -m benchmarks.NAME."""

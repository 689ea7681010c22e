"""Measurements that are too large for tests.

- `python -m benchmarks`: speed, memory and accuracy beside PyTorch's
- `python -m benchmarks.NAME`: `cold_start`, `full_size_checkpoint`, `parity`, `remat_memory`,
  `scaling`
"""

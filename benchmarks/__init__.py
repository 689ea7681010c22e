"""Measurements that take too long for tests.

- `python -m benchmarks`: speed, memory and accuracy, compared with PyTorch
- `python -m benchmarks.accelerator`: all that matters on one GPU in less than nine minutes
- `python -m benchmarks.NAME`: `caching`, `cold_start`, `full_size_checkpoint`, `latent_types`,
  `parity`, `plans`, `remat_memory`, `scaling`
"""

"""Caches of latents: how the command makes, checks and measures them, and what reads them.

`aura_jax.latents` has what users of a cache need.

- `inputs`: pictures in slices, each of which becomes one shard
- `encode`: the work on one shard, wherever it runs; `engines`: where it runs
- `folder`, `manifest`: what is done, by which weights and settings
- `number_types`, `record`, `shard_files`: how latents are stored
- `source`, `flip`, `statistics`: reading, flipping and normalising them
"""

"""Cached latents, flipped for free while training on them.

Needs `pip install "aura-jax[cache]"`. `aura-jax cache` makes a cache; here is what reads it.
"""

from aura_jax.console import needs

with needs("cache"):
    from aura_jax.cache.flip import RandomFlip
    from aura_jax.cache.record import from_bytes
    from aura_jax.cache.source import LatentSource
    from aura_jax.cache.statistics import Statistics, denormalize, normalize

__all__ = ["LatentSource", "RandomFlip", "Statistics", "denormalize", "from_bytes", "normalize"]

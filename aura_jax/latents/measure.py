"""The statistics of a whole cache, measured once and kept in its manifest."""

import dataclasses
from collections.abc import Callable
from itertools import batched

import numpy as np

from aura_jax.latents.manifest import write_manifest
from aura_jax.latents.quantize import restored
from aura_jax.latents.source import LatentSource
from aura_jax.latents.statistics import Moments, Statistics
from aura_jax.latents.workspace import CacheFolder

BATCH = 64  # latents that are held at once


def measure(source: LatentSource, progress: Callable[[int], None]) -> Statistics:
    """Reads a cache once, and writes its statistics into the manifest.

    Args:
        source: the cache.
        progress: is told how many latents have been read.

    Raises:
        CacheError: if a latent cannot be read, or the statistics are not those of latents: a
            channel that never changes has no deviation to divide by.
    """
    with CacheFolder(source.folder).locked():
        moments = Moments(source.manifest.settings["config"]["z_channels"])
        for indices in batched(range(len(source)), BATCH):
            moments.add(np.stack([restored(source.stored(i)[0]) for i in indices]))
            progress(len(indices))
        clamped = sum(shard.clamped for shard in source.manifest.shards)
        statistics = moments.result(len(source), clamped)
        write_manifest(source.folder, dataclasses.replace(source.manifest, statistics=statistics))
    return statistics

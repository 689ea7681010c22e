"""Measure the statistics of a whole cache, and store them in its manifest."""

import dataclasses
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from aura_jax.config import FLIPPED_CHANNELS, LATENT_LIMIT
from aura_jax.errors import CacheError
from aura_jax.latents.batches import BucketBatches
from aura_jax.latents.buckets import Bucket
from aura_jax.latents.locks import writing_lock
from aura_jax.latents.manifest import read_manifest, write_manifest
from aura_jax.latents.quantize import dequantize
from aura_jax.latents.source import LatentSource
from aura_jax.latents.statistics import Statistics

BATCH = 64  # latents in memory at once
BINS = 4096  # of the histogram that quantiles are read from: each is 1/256 wide
QUANTILES = (0.001, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 0.999)


def measure(source: LatentSource, progress: Callable[[int], None]) -> Statistics:
    """Read a cache once, and compute its statistics.

    Args:
        source: the cache.
        progress: called with the number of latents read since the previous call.

    Raises:
        CacheError: if there are no latents, one cannot be read or has another shape than the
            manifest says, or a channel is constant, so that its standard deviation is zero.
    """
    if not len(source):
        raise CacheError(f"{source.folder}: holds no latents")
    moments = Moments(source.manifest.spec.config.z_channels)
    for indices in BucketBatches(source, BATCH):
        moments.add(np.stack([_latent(source, i) for i in indices]))
        progress(len(indices))
    clamped = sum(shard.clamped for shard in source.manifest.shards)
    return moments.result(len(source), clamped)


def _latent(source: LatentSource, index: int) -> np.ndarray:
    values, about = source.stored(index)
    expected = source.manifest.spec.latent_shape(Bucket(*source.sizes[index].tolist()))
    if values.shape != expected:
        raise CacheError(f"{about['key']}: a latent of shape {values.shape}, expected {expected}")
    return dequantize(values)


def store(source: LatentSource, statistics: Statistics) -> None:
    """Write the statistics of a cache into its manifest.

    Raises:
        CacheError: if the cache is being written, or has changed since the source was opened.
        AuraError, OSError: if the manifest cannot be written.
    """
    with writing_lock(source.folder):
        if read_manifest(source.folder) != source.manifest:
            raise CacheError(f"{source.folder}: has changed meanwhile; measure it again")
        write_manifest(source.folder, dataclasses.replace(source.manifest, statistics=statistics))


class Moments:
    """Running statistics of each channel, accumulated in one pass over batches of latents."""

    def __init__(self, channels: int):
        self._count = 0  # of numbers of each channel
        self._mean, self._squares = np.zeros(channels), np.zeros(channels)
        self._histogram = np.zeros((channels, BINS), np.int64)

    def add(self, latents: Float[np.ndarray, "b h w c"]) -> None:
        """Merge a batch by Chan's parallel variance formula, which is numerically stable."""
        numbers = latents.reshape(-1, latents.shape[-1]).astype(np.float64)
        count, mean = len(numbers), numbers.mean(axis=0)
        squares = np.square(numbers - mean).sum(axis=0)
        total, delta = self._count + count, mean - self._mean
        self._squares += squares + np.square(delta) * (self._count * count / total)
        self._mean += delta * (count / total)
        self._count = total
        bins = np.floor((numbers + LATENT_LIMIT) * (BINS / (2 * LATENT_LIMIT))).astype(np.int64)
        flat = np.arange(len(self._mean)) * BINS + bins.clip(0, BINS - 1)
        self._histogram += np.bincount(flat.ravel(), minlength=self._histogram.size).reshape(
            self._histogram.shape
        )

    def result(self, latents: int, clamped: int) -> Statistics:
        """Return the statistics over all added latents and their flips.

        A flip that negates a channel turns its mean m into -m. The average of both is 0, and the
        mean of squares, var + m², is unchanged. Moving pixels changes neither.

        Args:
            latents: the number of latents that were added.
            clamped: the number of their values that were clamped.
        """
        mean, variance = self._mean.copy(), self._squares / self._count
        variance[-FLIPPED_CHANNELS:] += np.square(mean[-FLIPPED_CHANNELS:])
        mean[-FLIPPED_CHANNELS:] = 0
        histogram = 2 * self._histogram
        histogram[-FLIPPED_CHANNELS:] = (self._histogram + self._histogram[:, ::-1])[
            -FLIPPED_CHANNELS:
        ]
        quantiles = {str(level): _quantile(histogram, level) for level in QUANTILES}
        return Statistics(
            count=latents,
            mean=tuple(mean.tolist()),
            std=tuple(np.sqrt(variance).tolist()),
            quantiles=quantiles,
            clamped=clamped / (self._count * len(mean)),
        )


def _quantile(histogram: np.ndarray, level: float) -> tuple[float, ...]:
    """Compute the `level` quantile of each channel, interpolated within a bin."""
    cumulated = histogram.cumsum(axis=1)
    wanted = level * cumulated[:, -1:]
    bins = (cumulated < wanted).sum(axis=1, keepdims=True)
    inside = np.take_along_axis(histogram, bins, axis=1)
    below = np.take_along_axis(cumulated, bins, axis=1) - inside
    places = (bins + (wanted - below) / inside)[:, 0]
    return tuple((places * (2 * LATENT_LIMIT / BINS) - LATENT_LIMIT).tolist())

"""Statistics of latents that commute with the flips, and normalization with them."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from aura_jax.arrays import AnyArray, check_array, check_is_array
from aura_jax.config import FLIPPED_CHANNELS
from aura_jax.errors import AuraError, CacheError, counted


@dataclasses.dataclass(frozen=True)
class Statistics:
    """Statistics of each channel, averaged over the four flips of every latent.

    Attributes:
        count: the number of latents that were measured.
        mean: the mean of each channel; exactly 0 for the last four, which flips negate.
        std: standard deviation of each channel.
        quantiles: the quantiles of each channel by level, such as "0.25", accurate to 1/256.
        clamped: the fraction of all values that were clamped to the limit of ±8.

    Raises:
        CacheError: if they do not commute with the flips, or a standard deviation is not positive.
    """

    count: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    quantiles: Mapping[str, tuple[float, ...]]
    clamped: float

    def __post_init__(self) -> None:
        if not len(self.mean) == len(self.std) >= FLIPPED_CHANNELS:
            raise CacheError(
                f"statistics of {counted(len(self.mean), 'mean')} and "
                f"{counted(len(self.std), 'deviation')}: "
                f"expected as many of each, {FLIPPED_CHANNELS} or more"
            )
        flipped = self.mean[-FLIPPED_CHANNELS:]
        if any(flipped):
            raise CacheError(
                f"means of the last four channels are {flipped}, which flips negate: "
                "they must be 0, or flipping and normalizing do not commute"
            )
        if not np.isfinite(self.mean).all() or not all(0 < s < np.inf for s in self.std):
            raise CacheError(f"mean {self.mean}, deviations {self.std}: expected finite, above 0")


def normalize(latents: AnyArray, statistics: Statistics) -> Any:
    """Compute (latents - mean) / std of each channel, which commutes with `flip_latents`.

    Args:
        latents: [..., 16] floats, a jax or numpy array; numpy gives numpy.
        statistics: the statistics, such as `LatentSource.statistics`.

    Returns:
        An array of the same kind, shape and dtype.

    Raises:
        ArrayError: if the latents are not floats, or have another number of channels.
        AuraError: if the statistics are not of type `Statistics`.
    """
    mean, std = _like(latents, statistics)
    return (latents - mean) / std


def denormalize(latents: AnyArray, statistics: Statistics) -> Any:
    """Compute latents · std + mean, the inverse of `normalize`.

    Args:
        latents: [..., 16] floats, a jax or numpy array; numpy gives numpy.
        statistics: the statistics that were given to `normalize`.

    Raises:
        AuraError: as `normalize`.
    """
    mean, std = _like(latents, statistics)
    return latents * std + mean


def _like(latents: AnyArray, statistics: Statistics) -> Iterable[np.ndarray]:
    """Return mean and deviation in the dtype and rank of an array, so that results keep both."""
    check_is_array("latents", latents)
    if not isinstance(statistics, Statistics):
        raise AuraError(
            f"statistics: expected those of LatentSource.statistics, got {statistics!r}"
        )
    check_array("latents", latents, len(statistics.mean), axes=None)
    shape = (1,) * (latents.ndim - 1) + (-1,)
    return [
        np.asarray(each).astype(latents.dtype).reshape(shape)
        for each in (statistics.mean, statistics.std)
    ]

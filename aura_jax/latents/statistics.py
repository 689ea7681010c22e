"""Statistics of latents that commute with the flips, and normalization with them."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np

from aura_jax.arrays import AnyArray, check_array, check_is_array
from aura_jax.errors import AuraError, CacheError
from aura_jax.latent_stats import LatentStats, check_moments


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
        check_moments(self.mean, self.std, CacheError)


@runtime_checkable
class HasLatentStats(Protocol):
    """A model or a cache, which have the statistics of their latents."""

    @property
    def latent_stats(self) -> LatentStats | None:
        """The statistics; None if there are none."""
        ...


type AnyStatistics = HasLatentStats | LatentStats | Statistics


def normalize(latents: AnyArray, statistics: AnyStatistics) -> Any:
    """Compute (latents - mean) / std of each channel, which commutes with `flip_latents`.

        z = normalize(aura_jax.encode(vae, images), vae)

    Args:
        latents: [..., 16] floats, a jax or numpy array; numpy gives numpy.
        statistics: a model, for the statistics that came with its checkpoint, or its
            `latent_stats`; or those of a cache, `LatentSource.statistics`.

    Returns:
        An array of the same kind, shape and dtype.

    Raises:
        ArrayError: if the latents are not floats, or have another number of channels.
        AuraError: if the statistics are of another type, or the model has none.
    """
    mean, std = _like(latents, statistics)
    return (latents - mean) / std


def denormalize(latents: AnyArray, statistics: AnyStatistics) -> Any:
    """Compute latents · std + mean, the inverse of `normalize`.

    Args:
        latents: [..., 16] floats, a jax or numpy array; numpy gives numpy.
        statistics: the statistics that were given to `normalize`.

    Raises:
        AuraError: as `normalize`.
    """
    mean, std = _like(latents, statistics)
    return latents * std + mean


def _like(latents: AnyArray, statistics: AnyStatistics) -> Iterable[np.ndarray]:
    """Return mean and deviation in the dtype and rank of an array, so that results keep both."""
    check_is_array("latents", latents)
    found = _moments(statistics)
    check_array("latents", latents, len(found.mean), axes=None)
    shape = (1,) * (latents.ndim - 1) + (-1,)
    return [np.asarray(x).astype(latents.dtype).reshape(shape) for x in (found.mean, found.std)]


def _moments(statistics: AnyStatistics) -> LatentStats | Statistics:
    found = getattr(statistics, "latent_stats", statistics)
    if isinstance(found, LatentStats | Statistics):
        return found
    if found is None and statistics is not None:
        raise AuraError(
            "the model has no latent_stats: measure them with aura-jax cache make and cache stats, "
            "and set vae.latent_stats = LatentSource(...).latent_stats"
        )
    raise AuraError(
        f"statistics: expected a model, its latent_stats or LatentSource.statistics, got {found!r}"
    )

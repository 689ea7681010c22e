"""Statistics of latents that commute with the flips, and normalizing with them."""

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np
from jaxtyping import Float

from aura_jax.arrays import AnyArray, check_array
from aura_jax.config import FLIPPED_CHANNELS, LATENT_LIMIT
from aura_jax.errors import CacheError

BINS = 4096  # of the histogram that quantiles are read from: each is 1/256 wide
QUANTILES = (0.001, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 0.999)


@dataclasses.dataclass(frozen=True)
class Statistics:
    """Statistics of each channel, averaged over the four flips of every latent.

    Attributes:
        count: how many latents they are of.
        mean: of each channel; exactly 0 for the last four, each of which a flip negates.
        std: standard deviation of each channel.
        quantiles: by their levels, such as "0.25", for each channel, to 1/256.
        clamped: the share of all numbers that were at the limit of ±8.
    """

    count: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    quantiles: dict[str, tuple[float, ...]]
    clamped: float

    def __post_init__(self) -> None:
        if not len(self.mean) == len(self.std) >= FLIPPED_CHANNELS:
            raise CacheError(
                f"statistics of {len(self.mean)} means and {len(self.std)} deviations: "
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

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> "Statistics":
        """Of what `dataclasses.asdict` and JSON make of them.

        Raises:
            CacheError: if they do not commute with the flips.
        """
        lists = {name: tuple(document[name]) for name in ("mean", "std")}
        quantiles = {level: tuple(of_each) for level, of_each in document["quantiles"].items()}
        return cls(**{**document, **lists, "quantiles": quantiles})


def normalize(latents: AnyArray, statistics: Statistics) -> Any:
    """(latents - mean) / std for each channel; commutes with `flip_latents`.

    Args:
        latents: [..., 16] floats, a jax or numpy array; numpy gives numpy.
        statistics: such as `LatentSource.statistics`.

    Raises:
        AuraError: if they are not float arrays of as many channels as the statistics.
    """
    mean, std = _like(latents, statistics)
    return (latents - mean) / std


def denormalize(latents: AnyArray, statistics: Statistics) -> Any:
    """The inverse of `normalize`."""
    mean, std = _like(latents, statistics)
    return latents * std + mean


class Moments:
    """Running statistics of each channel, in one pass over batches of latents."""

    def __init__(self, channels: int):
        self._count = 0  # of numbers of each channel
        self._mean, self._squares = np.zeros(channels), np.zeros(channels)
        self._histogram = np.zeros((channels, BINS), np.int64)

    def add(self, latents: Float[np.ndarray, "b h w c"]) -> None:
        """Merges a batch by Chan's formula: two means of many are never subtracted."""
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
        """The statistics over all flips of what was added: latents, of whose numbers some clamped.

        A flip that negates a channel turns its mean m into -m: their average is 0, and the average
        of squares, which is var + m², stays. Moving pixels changes neither.
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
    """Where the share of what is below reaches `level`, interpolated within a bin."""
    cumulated = histogram.cumsum(axis=1)
    wanted = level * cumulated[:, -1:]
    bins = (cumulated < wanted).sum(axis=1, keepdims=True)
    inside = np.take_along_axis(histogram, bins, axis=1)
    below = np.take_along_axis(cumulated, bins, axis=1) - inside
    places = (bins + (wanted - below) / inside)[:, 0]
    return tuple((places * (2 * LATENT_LIMIT / BINS) - LATENT_LIMIT).tolist())


def _like(latents: AnyArray, statistics: Statistics) -> Iterable[np.ndarray]:
    """Mean and deviation in the type and rank of an array, so that neither changes it."""
    check_array("latents", latents, len(statistics.mean), axes=None)
    shape = (1,) * (latents.ndim - 1) + (-1,)
    return [
        np.asarray(each).astype(latents.dtype).reshape(shape)
        for each in (statistics.mean, statistics.std)
    ]

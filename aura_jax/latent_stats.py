"""The mean and standard deviation of a model's latent channels, as a checkpoint ships them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from aura_jax.config import FLIPPED_CHANNELS
from aura_jax.errors import AuraError, ConfigError, counted, printable

type Vector = Sequence[Any] | np.ndarray  # of numbers, which LatentStats checks

LONGEST_DESCRIPTION = 2000  # characters


class LatentStats:
    """Mean and standard deviation of each latent channel, which commute with the flips.

        vae.latent_stats = LatentStats(mean, std, "2,000 photographs of 256 x 256")

    Equal statistics are equal values with an equal hash.

    Args:
        mean: the mean of each channel; exactly 0 for the last four, which flips negate.
        std: the standard deviation of each channel.
        description: on which images the statistics were computed, and how.

    Attributes:
        mean: [C] float32, read-only.
        std: [C] float32, read-only.
        description: see above.

    Raises:
        ConfigError: if the statistics do not commute with the flips, a standard deviation is not
            positive, or the description is not a text of at most 2,000 characters.
    """

    def __init__(self, mean: Vector, std: Vector, description: str):
        if not isinstance(description, str) or len(description) > LONGEST_DESCRIPTION:
            shown = printable(repr(description))
            raise ConfigError(f"description {shown}: expected at most 2,000 characters")
        self.mean, self.std = _vector("mean", mean), _vector("std", std)
        self.description = description
        check_moments(self.mean, self.std, ConfigError)

    def to_dict(self) -> dict[str, Any]:
        """Return values of JSON, with the shortest decimals that are read as the same float32."""
        mean, std = ([float(str(x)) for x in each] for each in (self.mean, self.std))
        return {"mean": mean, "std": std, "description": self.description}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LatentStats) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash((self.mean.tobytes(), self.std.tobytes(), self.description))

    def __repr__(self) -> str:
        return f"LatentStats of {counted(len(self.mean), 'channel')}: {self.description}"


def check_moments(mean: Vector, std: Vector, error: type[AuraError]) -> None:
    """Check that means and standard deviations commute with the flips.

    Raises:
        AuraError: of the type `error`, if they do not, or a deviation is not positive.
    """
    if not len(mean) == len(std) >= FLIPPED_CHANNELS:
        raise error(
            f"statistics of {counted(len(mean), 'mean')} and {counted(len(std), 'deviation')}: "
            f"expected as many of each, {FLIPPED_CHANNELS} or more"
        )
    flipped = mean[-FLIPPED_CHANNELS:]
    if np.any(flipped):
        raise error(
            f"means of the last four channels are {flipped}, which flips negate: "
            "they must be 0, or flipping and normalizing do not commute"
        )
    if not np.isfinite(mean).all() or not all(0 < s < np.inf for s in std):
        raise error(f"mean {mean}, deviations {std}: expected finite, above 0")


def _vector(name: str, values: Vector) -> np.ndarray:
    try:
        vector = np.array(values, np.float32)
    except (TypeError, ValueError, OverflowError):
        vector = np.zeros(())
    if vector.ndim != 1:
        raise ConfigError(f"{name}: expected a number for each channel")
    vector.setflags(write=False)
    return vector

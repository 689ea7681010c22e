"""The sign rule, read off the latents themselves: which channels does a flip negate?"""

import dataclasses

import numpy as np
from jaxtyping import Float

from aura_jax.symmetry import flip_latents

CLEAR = 0.1  # correlations weaker than this are taken for no sign at all


@dataclasses.dataclass(frozen=True)
class SignRule:
    """The sign that a flip gives each channel.

    Attributes:
        signs: as the latents show it: 1, -1, or 0 where they show none.
        documented: as `flip_latents` has it.
    """

    signs: tuple[int, ...]
    documented: tuple[int, ...]

    @property
    def agrees(self) -> bool:
        """Whether every channel has its documented sign."""
        return self.signs == self.documented


def correlation_map(
    encoded: Float[np.ndarray, "h w z"], reversed_latent: Float[np.ndarray, "h w z"]
) -> Float[np.ndarray, "z z"]:
    """Pearson correlation over positions of each channel of one latent with each of another.

    Args:
        encoded: latent of a flipped photograph.
        reversed_latent: latent of the photograph, its axis reversed and no sign changed.

    Returns:
        [i, j] is the correlation of channel i of `encoded` with channel j of `reversed_latent`; 0
        where one of them is constant.
    """
    a, b = (_standardized(x.reshape(-1, x.shape[-1])) for x in (encoded, reversed_latent))
    return a.T @ b / len(a)


def recovered_rule(
    correlation: Float[np.ndarray, "z z"], *, horizontal: bool, vertical: bool
) -> SignRule:
    """The signs on the diagonal of a correlation map, against those documented for the flip."""
    diagonal = np.diag(correlation)
    signs = np.where(np.abs(diagonal) < CLEAR, 0, np.sign(diagonal))
    documented = documented_signs(len(diagonal), horizontal=horizontal, vertical=vertical)
    return SignRule(tuple(int(sign) for sign in signs), documented)


def documented_signs(channels: int, *, horizontal: bool, vertical: bool) -> tuple[int, ...]:
    """What `flip_latents` multiplies each channel by: 1 or -1."""
    ones = np.ones((1, 1, channels), np.float32)
    flipped = flip_latents(ones, horizontal=horizontal, vertical=vertical)
    return tuple(int(sign) for sign in flipped[0, 0])


def _standardized(x: Float[np.ndarray, "n z"]) -> Float[np.ndarray, "n z"]:
    """Channels of mean 0 and deviation 1, or all 0 if they are constant."""
    centered = x.astype(np.float64) - x.mean(axis=0, dtype=np.float64)
    deviation = centered.std(axis=0)
    return centered / np.where(deviation > 0, deviation, 1)

"""Recover the sign that a flip gives each channel from latents."""

import dataclasses

import numpy as np
from jaxtyping import Float

from aura_jax.symmetry import flip_latents

CLEAR = 0.1  # weaker correlations give no clear sign


@dataclasses.dataclass(frozen=True)
class SignRule:
    """The sign that a flip gives each channel.

    Attributes:
        signs: the signs recovered from latents: 1, -1, or 0 where they are not clear.
        documented: the signs that `flip_latents` applies: 1 or -1.
    """

    signs: tuple[int, ...]
    documented: tuple[int, ...]

    @property
    def agrees(self) -> bool:
        """Return whether every channel has its documented sign."""
        return self.signs == self.documented


def correlation_map(
    encoded: Float[np.ndarray, "h w z"], reversed_latent: Float[np.ndarray, "h w z"]
) -> Float[np.ndarray, "z z"]:
    """Correlate each channel of one latent with each channel of another (Pearson, over positions).

    Args:
        encoded: [h, w, C], the latent of a flipped photograph.
        reversed_latent: [h, w, C], the latent of the photograph with its axis reversed and no sign
            changed.

    Returns:
        [C, C]; element [i, j] is the correlation of channel i of `encoded` with channel j of
        `reversed_latent`, and 0 where one of them is constant.
    """
    a, b = (_standardized(x.reshape(-1, x.shape[-1])) for x in (encoded, reversed_latent))
    return a.T @ b / len(a)


def recovered_rule(
    correlation: Float[np.ndarray, "z z"], *, horizontal: bool, vertical: bool
) -> SignRule:
    """Derive the signs from the diagonal of a correlation map, beside the documented ones.

    Args:
        correlation: [C, C], as `correlation_map` returns it.
        horizontal: whether the flip is horizontal.
        vertical: whether the flip is vertical.
    """
    diagonal = np.diag(correlation)
    signs = np.where(np.abs(diagonal) < CLEAR, 0, np.sign(diagonal))
    documented = documented_signs(len(diagonal), horizontal=horizontal, vertical=vertical)
    return SignRule(tuple(int(sign) for sign in signs), documented)


def documented_signs(channels: int, *, horizontal: bool, vertical: bool) -> tuple[int, ...]:
    """Return the sign, 1 or -1, by which `flip_latents` multiplies each channel."""
    ones = np.ones((1, 1, channels), np.float32)
    flipped = flip_latents(ones, horizontal=horizontal, vertical=vertical)
    return tuple(int(sign) for sign in flipped[0, 0])


def _standardized(x: Float[np.ndarray, "n z"]) -> Float[np.ndarray, "n z"]:
    """Scale channels to mean 0 and deviation 1; constant ones become 0."""
    centered = x.astype(np.float64) - x.mean(axis=0, dtype=np.float64)
    deviation = centered.std(axis=0)
    return centered / np.where(deviation > 0, deviation, 1)

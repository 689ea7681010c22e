"""The valid part of padded images: how a program of one size runs images of any smaller size.

Padding changes what a network computes, since convolutions, norms and attention see it. Here it
does not: the layers of `aura_jax.runtime.kernels.masked` see zeros outside the valid part, as if
the image ended there, and leave it out of means and softmaxes.
"""

import contextlib
import dataclasses
import math
from collections.abc import Iterator
from contextvars import ContextVar

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

_current: ContextVar["Region"] = ContextVar("region")


@dataclasses.dataclass(frozen=True)
class Region:
    """The valid pixels of each image of a batch, which begin at its left upper corner.

    Attributes:
        heights: the number of valid rows of each image, traced.
        widths: the number of valid columns of each image, traced.
        full: the height and width of the padded images.
        convolved: the masks of pixels that convolutions made, by height and width: see
            `aura_jax.runtime.kernels.masks`.
    """

    heights: Int[Array, " b"]
    widths: Int[Array, " b"]
    full: tuple[int, int]
    convolved: dict[tuple[int, ...], Array] = dataclasses.field(default_factory=dict)

    @classmethod
    def marked(cls, rows: Bool[Array, "b h"], columns: Bool[Array, "b w"]) -> "Region":
        """Return the region of the rows and columns that are marked as valid."""
        return cls(rows.sum(axis=1), columns.sum(axis=1), (rows.shape[1], columns.shape[1]))

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        """Let the masked layers that are traced inside use this region."""
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)

    def mask(self, height: int, width: int) -> Bool[Array, "b {height} {width} 1"]:
        """Return which pixels are valid where the padded images have this height and width.

        Downsampling turns n pixels into floor(n / 2), upsampling into 2n.
        """
        sides = ((height, self.heights, self.full[0]), (width, self.widths, self.full[1]))
        # At least one, so that images of no pixels, which pad a batch, have finite means.
        rows, columns = (
            jnp.arange(side)[None] < jnp.maximum(counts * side // full, 1)[:, None]
            for side, counts, full in sides
        )
        return (rows[:, :, None] & columns[:, None])[..., None]

    def tokens(self, count: int) -> Bool[Array, "b t"]:
        """Return which of the pixels are valid where they are tokens, in the order of rows."""
        height, width = self.full
        # The number of tokens is that of pixels, times or divided by the square of the scale.
        scale = math.isqrt(height * width // count)
        return self.mask(height // scale, width // scale).reshape(-1, count)


def current() -> Region:
    """Return the region of the batch that is being traced."""
    return _current.get()

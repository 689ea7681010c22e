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

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from aura_jax.symmetry import FLIPS

_current: ContextVar["Region"] = ContextVar("region")


@dataclasses.dataclass(frozen=True)
class Region:
    """The valid pixels of each image of a batch.

    Attributes:
        heights: the number of valid rows of each image, traced.
        widths: the number of valid columns of each image, traced.
        full: the height and width of the padded images.
        tops: the first valid row of each image; by default the first of all.
        lefts: the first valid column of each image; by default the first of all.
        convolved: the masks of pixels that convolutions made, by height and width: see
            `aura_jax.runtime.kernels.masks`.
        repeated: these masks, repeated for the most channels that were asked for.
    """

    heights: Int[Array, " b"]
    widths: Int[Array, " b"]
    full: tuple[int, int]
    tops: Int[Array, " b"] | None = None
    lefts: Int[Array, " b"] | None = None
    convolved: dict[tuple[int, ...], Array] = dataclasses.field(default_factory=dict)
    repeated: dict[tuple[int, ...], Array] = dataclasses.field(default_factory=dict)

    @classmethod
    def marked(cls, rows: Bool[Array, "b h"], columns: Bool[Array, "b w"]) -> "Region":
        """Return the region of the rows and columns that are marked as valid."""
        return cls(rows.sum(axis=1), columns.sum(axis=1), (rows.shape[1], columns.shape[1]))

    def framed(self, multiple: int) -> "Region":
        """Return the regions of the four flips of each image, in the order of `frame_average`.

        Args:
            multiple: what sides are multiples of; further rows and columns are left out.
        """
        cut = [jnp.maximum(x // multiple, 1) * multiple for x in (self.heights, self.widths)]
        tops, lefts = (
            jnp.stack([(full - side) * flip[name] for flip in FLIPS.values()], axis=1).reshape(-1)
            for side, full, name in zip(cut, self.full, ("vertical", "horizontal"), strict=True)
        )
        heights, widths = (side.repeat(len(FLIPS)) for side in cut)
        return Region(heights, widths, self.full, tops, lefts)

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
        rows = _valid(jnp.arange(height)[None], height, self.full[0], self.heights, self.tops)
        columns = _valid(jnp.arange(width)[None], width, self.full[1], self.widths, self.lefts)
        return (rows[:, :, None] & columns[:, None])[..., None]

    def elements(
        self, height: int, width: int, channels: int
    ) -> Bool[Array, "b {height} {width} {channels}"]:
        """Return what `mask` does for each channel, from the row and the column of each element."""
        rows, columns = (
            jax.lax.broadcasted_iota(jnp.int32, (1, height, width, channels), axis)
            for axis in (1, 2)
        )
        return _valid(rows, height, self.full[0], self.heights, self.tops) & _valid(
            columns, width, self.full[1], self.widths, self.lefts
        )

    def tokens(self, count: int) -> Bool[Array, "b t"]:
        """Return which of the pixels are valid where they are tokens, in the order of rows."""
        return self.mask(*self.size(count)).reshape(-1, count)

    def size(self, count: int) -> tuple[int, int]:
        """Return the height and width of padded activations that have this many pixels."""
        height, width = self.full
        scale = math.isqrt(height * width // count)
        return height // scale, width // scale


def _valid(
    places: Int[Array, "1 ..."],
    side: int,
    full: int,
    counts: Int[Array, " b"],
    starts: Int[Array, " b"] | None,
) -> Bool[Array, "b ..."]:
    """Return which places are in valid rows, or columns, where `full` of them are `side`."""
    each = (slice(None), *(None for _ in places.shape[1:]))
    # At least one, so that images of no pixels, which pad a batch, have finite means.
    valid = jnp.maximum(counts * side // full, 1)[each]
    if starts is None:
        return places < valid
    places -= (starts * side // full)[each]
    return (places >= 0) & (places < valid)


def current() -> Region:
    """Return the region of the batch that is being traced."""
    return _current.get()

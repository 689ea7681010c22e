"""A codec for images of known sizes, which compiles few programs for many sizes."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property

import numpy as np
from jaxtyping import Array, Float

from aura_jax.errors import ArrayError
from aura_jax.model.autoencoder import AuraEquiVAE
from aura_jax.runtime.buckets import Sides
from aura_jax.runtime.codec import Codec, Images
from aura_jax.runtime.placement import Placement
from aura_jax.runtime.program import EXECUTABLES

type Sizes = Mapping[Sides, int]  # heights and widths, and how many images have each
type Prices = tuple[float, float]  # of compiling, in pixels: for one size, and for a bucket

# The small checkpoint takes 7 s of a CPU to encode a megapixel, and 2.4 s to compile that for one
# size, or 3.2 s for a bucket; 13 s to decode one, and 3.2 s or 4.3 s to compile that. With more
# channels, pixels take longer, and compiling hardly does.
ON_CPU, CHANNELS = (0.3e6, 0.4e6), 64
# Elsewhere compiling takes a minute or so, and a TPU v5e is planned to encode and decode a
# megapixel with the published model in 0.5 s.
ELSEWHERE = (100e6, 100e6)
PADDING = 1_000_000  # pixels added to an image at most; each takes about 1 kB of memory


class FittedCodec:
    """Encode and decode images of many sizes, with few programs that are chosen for these sizes.

    Each size has a program of its own, or shares that of a bucket with similar sizes, whichever
    takes less time in total. The results are those of `Codec(vae)`, to rounding. Images of other
    sizes than those given run in programs of their own.

    Args:
        vae: the model.
        sizes: height and width of each image that will be run, as often as it will be.

    Attributes:
        config: the model's.
    """

    def __init__(self, vae: AuraEquiVAE, sizes: Iterable[Sides]):
        self._vae, self.config = vae, vae.config
        side = self.config.downsampling
        padded = Counter((_up(h, side), _up(w, side)) for h, w in sizes if min(h, w) >= side)
        shared = shared_programs(padded, prices(vae))
        self.buckets = [bucket(group) for group in shared]
        self._in_buckets = {size for group in shared for size in group}

    def encode(self, images: np.ndarray) -> Float[Array, "b h w z"]:
        """Encode images whose sides are multiples of the downsampling: see `Codec.encode`."""
        return self._run(images.shape[1:3], 1, lambda codec: codec.encode(images))

    def decode(self, latents: np.ndarray, *, as_uint8: bool = False) -> Images:
        """Decode latents: see `Codec.decode`."""
        scale = self.config.downsampling
        return self._run(
            latents.shape[1:3], scale, lambda codec: codec.decode(latents, as_uint8=as_uint8)
        )

    def _run[Result](self, sides: Sides, scale: int, run: Callable[[Codec], Result]) -> Result:
        if (scale * sides[0], scale * sides[1]) in self._in_buckets:
            try:
                return run(self._bucketed)
            except ArrayError:  # a bucket takes more memory, which there may be too little of
                pass
        return run(self._plain)

    @cached_property
    def _plain(self) -> Codec:
        return Codec(self._vae)

    @cached_property
    def _bucketed(self) -> Codec:
        return Codec(self._vae, buckets=self.buckets)


def prices(vae: AuraEquiVAE) -> Prices:
    """Return the number of pixels that take as long as compiling for one size, and for a bucket."""
    if Placement.of(vae).device.platform != "cpu":
        return ELSEWHERE
    one, several = (price * (CHANNELS / vae.config.ch) ** 2 for price in ON_CPU)
    return one, several


def shared_programs(sizes: Sizes, prices: Prices) -> list[list[Sides]]:
    """Choose which sizes share programs: few enough that a codec keeps all of them.

    Returns:
        Groups of two sizes or more; the other sizes need programs of their own.
    """
    shared: list[list[Sides]] = []
    for factor in (1, 4, 16, 64):
        groups = divided(sizes, (factor * prices[0], factor * prices[1]))
        shared = [group for group in groups if len(group) > 1]
        if len(shared) <= EXECUTABLES:
            break
    return shared


def divided(sizes: Sizes, prices: Prices) -> list[list[Sides]]:
    """Divide sizes into groups of one program each, so that computing and compiling cost least.

    A group is cut at a height or a width, where that costs least, as long as a cut saves pixels or
    the group's bucket would add more than `PADDING` to an image.
    """
    cuts = min(_cuts(sizes), key=lambda parts: _sum(parts, prices), default=None)
    if cuts is None:
        return [[*sizes]] if sizes else []
    excess, _ = cost = _cost(sizes, prices)
    if not excess and _sum(cuts, prices) >= cost:
        return [[*sizes]]
    return [group for part in cuts for group in divided(part, prices)]


def bucket(sizes: Iterable[Sides]) -> Sides:
    """Return the smallest height and width that hold images of all these sizes."""
    heights, widths = zip(*sizes, strict=True)
    return max(heights), max(widths)


def _cuts(sizes: Sizes) -> Iterator[tuple[Sizes, Sizes]]:
    """Yield the ways of dividing sizes at a height or a width."""
    for axis in (0, 1):
        for limit in sorted({size[axis] for size in sizes})[1:]:
            low = {size: count for size, count in sizes.items() if size[axis] < limit}
            yield low, {size: count for size, count in sizes.items() if size[axis] >= limit}


def _sum(parts: Iterable[Sizes], prices: Prices) -> tuple[int, float]:
    excess, pixels = zip(*(_cost(part, prices) for part in parts), strict=True)
    return sum(excess), sum(pixels)


def _cost(sizes: Sizes, prices: Prices) -> tuple[int, float]:
    """Return how many sizes one program pads by too much, and its cost for all in pixels."""
    height, width = bucket(sizes)
    excess = sum(height * width - h * w > PADDING for h, w in sizes)
    return excess, height * width * sum(sizes.values()) + prices[len(sizes) > 1]


def _up(length: int, multiple: int) -> int:
    return -(-length // multiple) * multiple

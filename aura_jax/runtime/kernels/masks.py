"""Which elements of the activations of padded images are valid, told so that compilers can fuse it.

XLA:TPU (libtpu 0.0.50) cuts the rows of a few images in parts and computes them as a batch. It
carries this from layer to layer through whatever comes from convolutions, but not through other
masks: around each it would join and cut the parts again, and a program would take twice as long.
There masks are the results of convolutions too. Along the width their windows are those of the
model's convolutions, so that the parts are; along the height the smallest windows do. A decoder's
layers are cut after its attention and not before it, so the two share no masks.

Eight images or more are not cut. Their masks tell it from each element's row and column, which
XLA:TPU fuses with a convolution; it does not fuse the repetition of a mask of pixels for channels,
and would take 1.8 times as long on a v6e. XLA:GPU moves fewer bytes for the latter.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, BFloat16, Float

from aura_jax.config import NORM_GROUPS
from aura_jax.model.layers import Mask
from aura_jax.runtime.kernels.upsample import TransposedUpsample
from aura_jax.runtime.region import current

WHOLE_BATCH = 8  # XLA:TPU cuts fewer images than these on a device


@dataclasses.dataclass(frozen=True)
class Masks:
    """Masks that are repeated for channels."""

    def valid(self, x: Float[Array, "b h w c"]) -> Mask:
        """Return which elements of an activation are valid."""
        return current().mask(*x.shape[1:3])

    def follow(self, layer: Callable[[Array], Array], x: Array, y: Array) -> None:
        """Note that a layer turned x into y, whose size may be another."""

    def renew(self, tokens: int) -> None:
        """Share no mask between the layers before and after a decoder's attention."""


@dataclasses.dataclass(frozen=True)
class ConvolvedMasks(Masks):
    """Masks that convolutions make, of the kind that made the activations, if XLA:TPU cuts these.

    Attributes:
        shards: the number of parts in which devices share a batch.
    """

    shards: int = 1

    def valid(self, x: Float[Array, "b h w c"]) -> Mask:
        """Return which elements of an activation are valid."""
        size, channels, repeated = x.shape[1:3], x.shape[3], current().repeated
        if not self._is_cut(x):
            return current().elements(*x.shape[1:])
        if channels < NORM_GROUPS:  # an image or a latent, which comes from no convolution
            return super().valid(x)
        # Cutting a mask from a wider one costs less than making it.
        if size not in repeated or repeated[size].shape[3] < channels:
            repeated[size] = _repeated(_pixels(x), channels) > 0
        return repeated[size][..., :channels]

    def follow(self, layer: Callable[[Array], Array], x: Array, y: Array) -> None:
        """Make the mask of y from that of x if the layer resizes as a convolution."""
        if not self._is_cut(x):
            return
        if y.shape[1] < x.shape[1]:
            current().convolved[y.shape[1:3]] = _halved(_pixels(x))
        elif isinstance(layer, TransposedUpsample):
            current().convolved[y.shape[1:3]] = _doubled(_pixels(x))

    def renew(self, tokens: int) -> None:
        """Share no mask between the layers before and after a decoder's attention."""
        region = current()
        size = region.size(tokens)
        in_decoder = size == region.full  # the latents' size; an encoder attends to a smaller one
        if in_decoder and size in region.repeated:
            del region.repeated[size]
            region.convolved[size] = _repeated(region.convolved[size], 1)

    def _is_cut(self, x: Float[Array, "b h w c"]) -> bool:
        return x.shape[0] < WHOLE_BATCH * self.shards


REPEATED = Masks()


def _pixels(x: Float[Array, "b h w c"]) -> BFloat16[Array, "b h w 1"]:
    size, region = x.shape[1:3], current()
    if size not in region.convolved:
        region.convolved[size] = _repeated(region.mask(*size).astype(jnp.bfloat16), 1)
    return region.convolved[size]


def _repeated(pixels: Float[Array, "b h w 1"], channels: int) -> Float[Array, "b h w {channels}"]:
    """Repeat a mask for channels."""
    kernel = jnp.zeros((1, 3, 1, channels), pixels.dtype).at[:, 1].set(1)
    return _convolve(pixels, kernel, padding=((0, 0), (1, 1)))


def _halved(pixels: Float[Array, "b h w 1"]) -> Float[Array, "b h//2 w//2 1"]:
    """Keep those whose second row and column are valid, as n pixels become n // 2."""
    kernel = jnp.zeros((2, 3, 1, 1), pixels.dtype).at[1, 1].set(1)
    return _convolve(pixels, kernel, window_strides=(2, 2), padding=((0, 0), (0, 1)))


def _doubled(pixels: Float[Array, "b h w 1"]) -> Float[Array, "b 2*h 2*w 1"]:
    """Repeat each pixel, as `TransposedUpsample` does."""
    kernel = jnp.zeros((2, 4, 1, 1), pixels.dtype).at[:, 1:3].set(1)
    return _convolve(pixels, kernel, padding=((1, 1), (2, 2)), lhs_dilation=(2, 2))


def _convolve(x: Array, kernel: Array, **options: Any) -> Array:
    layout = ("NHWC", "HWIO", "NHWC")
    options = {"window_strides": (1, 1)} | options
    return jax.lax.conv_general_dilated(x, kernel, dimension_numbers=layout, **options)

"""Convolutions whose kernels are stored as cuDNN reads them."""

from collections.abc import Sequence
from typing import cast

import jax
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

type Padding = str | Sequence[tuple[int, int]]


class OutputFirstConv(nnx.Module):
    """`nnx.Conv` with its kernel in OHWI instead of HWIO.

    cuDNN reads NHWC images with OHWI kernels: XLA would transpose every HWIO kernel in each call.

    Args:
        conv: the trained layer, a 2-D convolution with explicit padding and without dilation.
        dtype: the dtype to compute in, and to keep the parameters in.
    """

    def __init__(self, conv: nnx.Conv, dtype: DTypeLike):
        self.strides, self.padding = _pair(conv.strides), cast(Padding, conv.padding)
        self.kernel = nnx.Param(conv.kernel[...].transpose(3, 0, 1, 2).astype(dtype))
        self.bias = None if conv.bias is None else nnx.Param(conv.bias[...].astype(dtype))

    def __call__(self, x: Float[Array, "b h w cin"]) -> Float[Array, "b h2 w2 cout"]:
        """Convolve, and add the bias."""
        kernel, layout = self.kernel[...], ("NHWC", "OHWI", "NHWC")
        y = jax.lax.conv_general_dilated(
            x.astype(kernel.dtype), kernel, self.strides, self.padding, dimension_numbers=layout
        )
        return y if self.bias is None else y + self.bias[...][None, None, None]


def _pair(strides: int | Sequence[int] | None) -> Sequence[int]:
    return (strides or 1,) * 2 if isinstance(strides, int | None) else strides

"""Upsampling without repeated pixels: 16 multiplications for 4 pixels instead of 36.

The algebra is exact, zero padding included; taps are summed in float32 and rounded once.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from aura_jax.model.layers import Upsample
from aura_jax.runtime.kernels.winograd import interleaved

# At an even position of the doubled image a kernel's taps [w0, w1, w2] see pixels i-1, i, i of the
# small image, at an odd one i, i, i+1. So three taps on the doubled image are two on the small one:
TAPS = np.array(
    [
        [[1, 0, 0], [0, 1, 1]],  # even: w0 on i-1, w1 + w2 on i
        [[1, 1, 0], [0, 0, 1]],  # odd: w0 + w1 on i, w2 on i+1
    ],
    np.float32,
)


class FoldedUpsample(nnx.Module):
    """`Upsample` as one 2×2 convolution of the small image, with four output pixels per position.

    The four are then interleaved, which is cheap on a CPU alone.

    Args:
        upsample: the trained layer.
        dtype: the dtype to compute in, and to keep the folded kernel in.
    """

    def __init__(self, upsample: Upsample, dtype: DTypeLike):
        kernel = _folded(upsample, "ijcpqo")
        self.kernel = nnx.Param(kernel.reshape(*kernel.shape[:3], -1).astype(dtype))
        self.bias = upsample.conv.bias

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b 2*h 2*w c"]:
        """Double the image by nearest neighbor and apply the 3×3 convolution."""
        b, h, w, c = x.shape
        kernel, layout = self.kernel[...], ("NHWC", "HWIO", "NHWC")
        # The 2×2 window (i, j) of the padded image starts at pixel (i-1, j-1) of the image.
        y = jax.lax.conv_general_dilated(
            x.astype(kernel.dtype), kernel, (1, 1), ((1, 1), (1, 1)), dimension_numbers=layout
        ).reshape(b, h + 1, w + 1, 4, c)
        parts = [[y[:, p : p + h, q : q + w, 2 * p + q] for q in (0, 1)] for p in (0, 1)]
        return interleaved(parts) + _bias(self.bias, y)


class TransposedUpsample(nnx.Module):
    """`Upsample` as the transpose of a 4×4 convolution of stride 2, which writes every pixel once.

    XLA runs it as cuDNN's gradient of a convolution's input on a GPU, and as a convolution of the
    image with zeros between its pixels on a TPU.

    Args:
        upsample: the trained layer.
        dtype: the dtype to compute in, and to keep the folded kernel in.
    """

    def __init__(self, upsample: Upsample, dtype: DTypeLike):
        # With zeros between pixels, output 2r + p sees pixel r + p - 1 + i through tap 2i + p.
        kernel = _folded(upsample, "cipjqo")
        kernel = kernel.reshape(kernel.shape[0], 4, 4, -1)
        # XLA (of jax 0.12) recognizes the gradient by the reversal of the kernel in the program.
        self.kernel = nnx.Param(jnp.flip(kernel, (1, 2)).astype(dtype))
        self.bias = upsample.conv.bias

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b 2*h 2*w c"]:
        """Double the image by nearest neighbor and apply the 3×3 convolution."""
        kernel = self.kernel[...]
        y = jax.lax.conv_general_dilated(
            x.astype(kernel.dtype),
            jax.lax.rev(kernel, (1, 2)),
            (1, 1),
            ((2, 2), (2, 2)),
            lhs_dilation=(2, 2),
            dimension_numbers=("NHWC", "IHWO", "NHWC"),
        )
        return y + _bias(self.bias, y)


def _folded(upsample: Upsample, axes: str) -> Float[Array, "..."]:
    """Return the taps i, j of the small image for the output pixel p, q, with axes in this order.

    Args:
        upsample: the trained layer.
        axes: an order of i, j, p, q, the input channels c and the output channels o.
    """
    kernel = upsample.conv.kernel[...].astype(jnp.float32)
    return jnp.einsum(f"pia,qjb,abco->{axes}", TAPS, TAPS, kernel, precision="highest")


def _bias(bias: nnx.Param | None, y: Array) -> Array | int:
    return 0 if bias is None else bias[...].astype(y.dtype)[None, None, None]

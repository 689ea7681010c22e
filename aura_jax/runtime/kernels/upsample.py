"""Upsampling without repeated pixels: 16 multiplications for 4 pixels instead of 36."""

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

    The algebra is exact, zero padding included; taps are summed in float32 and rounded once.

    Args:
        upsample: the trained layer.
        dtype: the dtype to compute in, and to keep the folded kernel in.
    """

    def __init__(self, upsample: Upsample, dtype: DTypeLike):
        kernel = upsample.conv.kernel[...].astype(jnp.float32)
        folded = jnp.einsum("pia,qjb,abco->ijcpqo", TAPS, TAPS, kernel, precision="highest")
        self.kernel = nnx.Param(folded.reshape(2, 2, kernel.shape[2], -1).astype(dtype))
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
        bias = 0 if self.bias is None else self.bias[...].astype(y.dtype)[None, None, None]
        return interleaved(parts) + bias

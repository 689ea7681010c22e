"""GroupNorm in three separate passes over the image."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Float32

from aura_jax.model.layers import NORM_EPSILON, GroupNorm, Mask, group_mean


class FusedGroupNorm(nnx.Module):
    """`GroupNorm` in three passes over its input, without a float32 copy of it.

    XLA (of jax 0.12) merges the three conversions from bfloat16 into one and writes its result to
    memory, which costs more than the rest of the layer. Behind barriers each conversion is fused
    with the sums that use it, and the last one with the activation that follows.
    """

    def __init__(self, norm: GroupNorm):
        self.scale, self.bias = norm.scale, norm.bias

    def __call__(
        self, x: Float[Array, "b h w c"], where: Mask | None = None
    ) -> Float32[Array, "b h w c"]:
        """Normalize activations of any floating-point dtype; the result is float32."""
        scale, bias = (
            p[...].astype(jnp.float32)[None, None, None] for p in (self.scale, self.bias)
        )
        mean = group_mean(x.astype(jnp.float32), where)
        variance = group_mean(jnp.square(_read_again(x) - mean), where)
        gain = scale * jax.lax.rsqrt(variance + NORM_EPSILON)
        return (_read_again(x) - mean) * gain + bias


def _read_again(x: Float[Array, "b h w c"]) -> Float32[Array, "b h w c"]:
    return jax.lax.optimization_barrier(x).astype(jnp.float32)

"""GroupNorm whose passes over the image stay apart."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Float32

from aura_jax.model.layers import NORM_EPSILON, GroupNorm, group_mean


class FusedGroupNorm(nnx.Module):
    """What `GroupNorm` does, in three readings of its input and no float32 copy of it.

    XLA takes the conversions of bfloat16 in the three for one and keeps its result, which costs
    more than all the rest; behind barriers each is fused with the sums that it is for. The last one
    fuses with the activation that follows.
    """

    def __init__(self, norm: GroupNorm):
        self.scale, self.bias = norm.scale, norm.bias

    def __call__(self, x: Float[Array, "b h w c"]) -> Float32[Array, "b h w c"]:
        """The normalized image in float32."""
        scale, bias = (
            p[...].astype(jnp.float32)[None, None, None] for p in (self.scale, self.bias)
        )
        mean = group_mean(x.astype(jnp.float32))
        variance = group_mean(jnp.square(_read_again(x) - mean))
        gain = scale * jax.lax.rsqrt(variance + NORM_EPSILON)
        return (_read_again(x) - mean) * gain + bias


def _read_again(x: Float[Array, "b h w c"]) -> Float32[Array, "b h w c"]:
    return jax.lax.optimization_barrier(x).astype(jnp.float32)

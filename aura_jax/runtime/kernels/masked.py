"""Layers of padded images, which see only the valid part of each: see `aura_jax.runtime.region`."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Float32

from aura_jax.model.layers import Attention
from aura_jax.runtime.kernels.masks import Masks
from aura_jax.runtime.region import current


class Masked(nnx.Module):
    """A convolution that sees zeros outside the valid part, which is its own padding there."""

    def __init__(self, layer: Callable[[Array], Array], masks: Masks):
        self.layer, self.masks = layer, masks

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """Apply the layer; the result has no meaning outside the valid part."""
        y = self.layer(jnp.where(self.masks.valid(x), x, 0))
        self.masks.follow(self.layer, x, y)
        return y


class MaskedNorm(nnx.Module):
    """A norm whose means are over the valid part."""

    def __init__(self, norm: Any, masks: Masks):
        self.norm, self.masks = norm, masks  # the norm is a GroupNorm or a FusedGroupNorm

    def __call__(self, x: Float[Array, "b h w c"]) -> Float32[Array, "b h w c"]:
        """Normalize; the result has no meaning outside the valid part."""
        return self.norm(x, where=self.masks.valid(x))


def masked(attend: Attention, masks: Masks) -> Attention:
    """Leave keys outside the valid part out of attention."""

    def attend_to_valid(q: Array, k: Array, v: Array, *, valid: Array | None = None) -> Array:
        assert valid is None
        masks.renew(k.shape[1])
        return attend(q, k, v, valid=current().tokens(k.shape[1]))

    return attend_to_valid

"""Faster kernels for attention between all pixels."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from aura_jax.model.layers import Attention, attention

AMPERE = 8.0  # the compute capability that cuDNN's attention needs


def fastest_attention(dtype: np.dtype) -> Attention:
    """Choose the fastest exact attention in a dtype on the default device.

    cuDNN's attention needs half precision and an NVIDIA GPU of the Ampere generation or newer.
    Elsewhere JAX 0.12 raises an error instead of falling back.
    """
    flash = dtype.itemsize == 2 and _has_flash_attention(jax.devices()[0])
    return flash_attention if flash else deferred_attention


def _has_flash_attention(device: Any) -> bool:
    cuda = device.platform == "gpu" and "cuda" in device.client.platform_version
    return cuda and float(device.compute_capability) >= AMPERE


def flash_attention(
    q: Float[Array, "b t n d"], k: Float[Array, "b t n d"], v: Float[Array, "b t n d"]
) -> Float[Array, "b t n d"]:
    """Compute `layers.attention` with cuDNN's kernel, which keeps no logits in memory."""
    return jax.nn.dot_product_attention(q, k, v, implementation="cudnn")


def deferred_attention(
    q: Float[Array, "b t n d"], k: Float[Array, "b t n d"], v: Float[Array, "b t n d"]
) -> Float[Array, "b t n d"]:
    """Compute `layers.attention`, with the softmax's division after the product with v."""
    return attention(q, k, v, attend=_attend)


def _attend(
    q: Float[Array, "b t n d"], k: Float[Array, "b s n d"], v: Float[Array, "b s n d"]
) -> Float[Array, "b t n d"]:
    """Divide the [t, d] result instead of the [t, s] weights, so that XLA fuses the loops."""
    scale = np.asarray(1 / np.sqrt(q.shape[-1]), q.dtype)
    queries, keys, values = (jnp.moveaxis(x, 2, 1) for x in (q * scale, k, v))
    logits = jnp.einsum("bntd,bnsd->bnts", queries, keys, preferred_element_type=jnp.float32)
    weights = jnp.exp(logits - logits.max(axis=-1, keepdims=True))
    mixed = jnp.einsum(
        "bnts,bnsd->bntd", weights.astype(v.dtype), values, preferred_element_type=jnp.float32
    )
    out = mixed / weights.sum(axis=-1, keepdims=True)
    return jnp.moveaxis(out, 1, 2).astype(v.dtype)

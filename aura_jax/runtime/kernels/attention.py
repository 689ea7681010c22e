"""Faster kernels for attention between all pixels."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float

from aura_jax.model.layers import Attention, attention
from aura_jax.runtime.kernels.masks import WHOLE_BATCH

# Tokens per step of the TPU kernel. The scores of a step, in float32, take 2 MB of the 16 MB of
# vector memory of a v5e.
QUERIES, KEYS, LANES = 1024, 512, 128
# Bytes of logits in float32: with the published model those of one image of 256², and of 610². The
# second is interpolated between plans of a v6e for single images of 256², 512² and 1024².
SMALL_LOGITS, LARGE_LOGITS = 2**26, 2**31


def deferred_attention(
    q: Float[Array, "b t n d"],
    k: Float[Array, "b s n d"],
    v: Float[Array, "b s n d"],
    *,
    valid: Bool[Array, "b s"] | None = None,
) -> Float[Array, "b t n d"]:
    """Compute `layers.attention`, with the softmax's division after the product with v."""
    return attention(q, k, v, valid=valid, attend=_attend)


def cudnn_attention(
    q: Float[Array, "b t n d"],
    k: Float[Array, "b s n d"],
    v: Float[Array, "b s n d"],
    *,
    valid: Bool[Array, "b s"] | None = None,
) -> Float[Array, "b t n d"]:
    """Compute `layers.attention` with cuDNN's kernel, which keeps no logits in memory."""
    if valid is None:
        return jax.nn.dot_product_attention(q, k, v, implementation="cudnn")
    # The kernel masks keys by their number alone, so the valid ones go first: their order is free.
    first = jnp.argsort(~valid, axis=1)[..., None, None]
    keys, values = (jnp.take_along_axis(x, first, axis=1) for x in (k, v))
    return jax.nn.dot_product_attention(
        q, keys, values, key_value_seq_lengths=valid.sum(axis=1), implementation="cudnn"
    )


def pallas_attention(
    q: Float[Array, "b t n d"],
    k: Float[Array, "b s n d"],
    v: Float[Array, "b s n d"],
    *,
    valid: Bool[Array, "b s"] | None = None,
) -> Float[Array, "b t n d"]:
    """Compute `layers.attention` with JAX's kernel for TPUs, which keeps no logits in memory.

    The kernel works on whole blocks of tokens: others are padded, and their keys masked.
    """
    from jax.experimental.pallas.ops.tpu import flash_attention as tpu  # slow to import

    tokens, scale = q.shape[1], float(q.shape[-1]) ** -0.5
    query_block, key_block = (
        min(size, _up_to(LANES, x.shape[1])) for size, x in ((QUERIES, q), (KEYS, k))
    )
    queries, keys, values = (
        _padded(jnp.moveaxis(x, 2, 1), block)
        for x, block in ((q, query_block), (k, key_block), (v, key_block))
    )
    # At a higher precision libtpu (0.0.50) refuses products of bfloat16, which are exact anyway.
    with jax.default_matmul_precision("default"):
        out = tpu.flash_attention(
            queries,
            keys,
            values,
            segment_ids=_segments(tpu.SegmentIds, queries, keys, valid, k.shape[1]),
            sm_scale=scale,
            block_sizes=tpu.BlockSizes(query_block, key_block, key_block, 1),
        )
    return jnp.moveaxis(out[:, :, :tokens], 1, 2)


def pallas_if_large(
    q: Float[Array, "b t n d"],
    k: Float[Array, "b s n d"],
    v: Float[Array, "b s n d"],
    *,
    valid: Bool[Array, "b s"] | None = None,
) -> Float[Array, "b t n d"]:
    """Compute `layers.attention`, with the kernel for TPUs if the logits take much memory."""
    batch, tokens, heads, _ = q.shape
    is_large = 4 * batch * heads * tokens * k.shape[1] > SMALL_LOGITS
    return (pallas_attention if is_large else attention)(q, k, v, valid=valid)


def pallas_if_larger(
    q: Float[Array, "b t n d"],
    k: Float[Array, "b s n d"],
    v: Float[Array, "b s n d"],
    *,
    valid: Bool[Array, "b s"] | None = None,
) -> Float[Array, "b t n d"]:
    """Compute `pallas_if_large` in a decoder, where few images need larger logits.

    XLA:TPU cuts the rows of fewer than eight images into parts, but a decoder has too few layers
    before its attention for that if a kernel follows. Whole, they lose more than the kernel saves.
    """
    batch, tokens, heads, _ = q.shape
    is_small = 4 * heads * tokens * k.shape[1] <= LARGE_LOGITS
    attend = attention if batch < WHOLE_BATCH and is_small else pallas_if_large
    return attend(q, k, v, valid=valid)


def over_mesh(attend: Attention, sharding: NamedSharding) -> Attention:
    """Compute attention on a mesh: each device keeps its queries and gathers the keys and values.

    The partitioner of XLA cannot split the kernels, nor a loop over chunks of queries.

    Args:
        attend: the attention of one device.
        sharding: that of images, of which the batch and the rows may be split.
    """
    batch, rows = (*sharding.spec, None, None)[:2]
    own, every = PartitionSpec(batch, rows), PartitionSpec(batch)

    def attend_on_mesh(
        q: Array, k: Array, v: Array, *, valid: Bool[Array, "b s"] | None = None
    ) -> Array:
        context = jax.sharding.get_abstract_mesh()  # that of `on_auto_axes`
        return jax.shard_map(
            lambda q, k, v, valid: attend(q, k, v, valid=valid),
            mesh=sharding.mesh if context.empty else context,
            in_specs=(own, every, every, every),
            out_specs=own,
            check_vma=False,  # Pallas kernels do not say over which axes their results vary
        )(q, k, v, valid)

    return attend_on_mesh


def _attend(
    q: Float[Array, "b t n d"],
    k: Float[Array, "b s n d"],
    v: Float[Array, "b s n d"],
    *,
    valid: Bool[Array, "b s"] | None = None,
) -> Float[Array, "b t n d"]:
    """Divide the [t, d] result instead of the [t, s] weights, so that XLA fuses the loops."""
    scale = np.asarray(1 / np.sqrt(q.shape[-1]), q.dtype)
    queries, keys, values = (jnp.moveaxis(x, 2, 1) for x in (q * scale, k, v))
    logits = jnp.einsum("bntd,bnsd->bnts", queries, keys, preferred_element_type=jnp.float32)
    if valid is not None:
        logits = jnp.where(valid[:, None, None], logits, -jnp.inf)
    weights = jnp.exp(logits - logits.max(axis=-1, keepdims=True))
    mixed = jnp.einsum(
        "bnts,bnsd->bntd", weights.astype(v.dtype), values, preferred_element_type=jnp.float32
    )
    out = mixed / weights.sum(axis=-1, keepdims=True)
    return jnp.moveaxis(out, 1, 2).astype(v.dtype)


def _up_to(multiple: int, count: int) -> int:
    return -(-count // multiple) * multiple


def _padded(x: Float[Array, "b n t d"], block: int) -> Float[Array, "b n t2 d"]:
    missing = _up_to(block, x.shape[2]) - x.shape[2]
    return jnp.pad(x, ((0, 0), (0, 0), (0, missing), (0, 0)))


def _segments(
    make: Callable[[Array, Array], Any],
    queries: Array,
    keys: Array,
    valid: Bool[Array, "b s"] | None,
    tokens: int,
) -> Any:
    """Return segments that keep all queries from keys that are padding or not valid, if any are."""
    batch, missing = keys.shape[0], keys.shape[2] - tokens
    if valid is None and not missing:
        return None
    valid = jnp.ones((batch, tokens), bool) if valid is None else valid
    other = ~jnp.pad(valid, ((0, 0), (0, missing)))
    return make(jnp.zeros((batch, queries.shape[2]), jnp.int32), other.astype(jnp.int32))

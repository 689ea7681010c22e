"""The attention of each device, and each against softmax attention in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.experimental.pallas import tpu
from jax.typing import DTypeLike

from aura_jax.arrays import relative_error
from aura_jax.config import HEAD_DIM
from aura_jax.model import layers
from aura_jax.model.layers import Attention, attention
from aura_jax.runtime.kernels.attention import (
    cudnn_attention,
    deferred_attention,
    pallas_attention,
)
from aura_jax.runtime.plan import Plan, device_plan, masked_plan, with_dtype
from aura_jax.runtime.region import Region
from aura_jax.runtime.rewrite import rewritten
from convert.tolerances import BF16_ROUNDINGS, FP32_PARITY
from tests.absent_device import absent
from tests.conftest import TINY_CONFIG
from tests.random_models import random_vae

F32, BF16 = np.dtype(np.float32), np.dtype(jnp.bfloat16)


def queries_keys_values(tokens: int, dtype: np.dtype) -> tuple[np.ndarray, ...]:
    values = np.random.default_rng(tokens).normal(0, 3, (3, 2, tokens, 2, HEAD_DIM))
    return tuple(values.astype(dtype))


def exact_attention(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    q, k, v = (x.astype(np.float64) for x in (q, k, v))
    logits = np.einsum("bqhd,bkhd->bhqk", q, k) / np.sqrt(HEAD_DIM)
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.einsum("bhqk,bkhd->bqhd", weights / weights.sum(axis=-1, keepdims=True), v)


def check_attention(attend: Attention, tokens: int, dtype: np.dtype, limit: float) -> None:
    qkv = queries_keys_values(tokens, dtype)
    # A new function, since a compiled one would not notice what a test has replaced.
    out = np.asarray(jax.jit(lambda q, k, v: attend(q, k, v))(*qkv))
    assert out.dtype == dtype
    assert relative_error(out, exact_attention(*qkv)) <= limit


@pytest.mark.parametrize("tokens", [1, 35])
@pytest.mark.parametrize(("dtype", "limit"), [(F32, FP32_PARITY), (BF16, 2 * BF16_ROUNDINGS)])
@pytest.mark.parametrize("logits_bytes", [2**29, 2000])
def test_attention(
    tokens: int,
    dtype: np.dtype,
    limit: float,
    logits_bytes: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(layers, "LOGITS_BYTES", logits_bytes)  # few: in chunks of queries
    check_attention(deferred_attention, tokens, dtype, limit)


@pytest.mark.parametrize("tokens", [1, 128, 700, 1030])
def test_attention_of_a_tpu(tokens: int) -> None:
    """Less than a block, a whole one, several of keys, and several of queries."""
    with tpu.force_tpu_interpret_mode():
        check_attention(pallas_attention, tokens, BF16, 2 * BF16_ROUNDINGS)


@pytest.mark.parametrize(
    ("attend", "dtype", "limit"),
    [
        (attention, F32, FP32_PARITY),
        (deferred_attention, F32, FP32_PARITY),
        (cudnn_attention, F32, FP32_PARITY),
        (pallas_attention, BF16, 2 * BF16_ROUNDINGS),
    ],
)
def test_attention_leaves_out_keys_that_are_not_valid(
    attend: Attention, dtype: np.dtype, limit: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The results are those of the valid keys alone, in any places and numbers."""
    # XLA's attention in the place of cuDNN's, which only a GPU has, with the same arguments.
    xla = jax.nn.dot_product_attention
    monkeypatch.setattr(
        jax.nn, "dot_product_attention", lambda *a, implementation=None, **k: xla(*a, **k)
    )
    q, k, v = queries_keys_values(35, dtype)
    valid = np.random.default_rng(0).random((2, 35)) < np.array([[0.3], [0.8]])
    with tpu.force_tpu_interpret_mode():
        out = np.asarray(jax.jit(attend)(q, k, v, valid=valid))
    for i, mask in enumerate(valid):
        exact = exact_attention(q[i : i + 1], k[i : i + 1, mask], v[i : i + 1, mask])
        assert relative_error(out[i : i + 1], exact) <= limit


@pytest.mark.parametrize(
    ("platform", "capability", "dtype", "expected"),
    [
        ("gpu", "9.0", jnp.bfloat16, cudnn_attention),
        ("gpu", "8.0", jnp.float16, cudnn_attention),
        ("gpu", "9.0", jnp.float32, attention),
        ("gpu", "7.5", jnp.bfloat16, attention),
        ("gpu", "gfx942", jnp.bfloat16, attention),
        ("tpu", "", jnp.bfloat16, pallas_attention),
        ("tpu", "", jnp.float32, attention),
        ("cpu", "", jnp.bfloat16, deferred_attention),
    ],
)
def test_each_device_has_its_attention(
    platform: str, capability: str, dtype: DTypeLike, expected: Attention
) -> None:
    chosen = device_plan(absent(platform, capability), np.dtype(dtype), "highest")
    assert chosen.attention is expected


@pytest.mark.parametrize(
    ("batch", "tokens", "kernels"),
    [
        (1, 1024, []),
        (1, 1025, ["encoder"]),
        (7, 5792, ["encoder"]),
        (1, 5793, ["encoder", "decoder"]),
        (8, 1024, ["encoder", "decoder"]),
    ],
)
def test_a_v6e_uses_the_kernel_where_logits_are_large(
    batch: int, tokens: int, kernels: list[str]
) -> None:
    """More than those of one image of 256² with the published model, whose heads are 16.

    With fewer than eight images, in a decoder, more than those of 610² for each.
    """
    chosen = device_plan(absent("tpu", kind="TPU v6 lite"), BF16, "highest")
    model = nnx.eval_shape(lambda: rewritten(random_vae(TINY_CONFIG, BF16), BF16, chosen))
    q = jax.ShapeDtypeStruct((batch, tokens, 16, HEAD_DIM), BF16)
    found = []
    for name in ("encoder", "decoder"):
        attend = getattr(model, name).mid.attn_1.attention
        if "pallas_call" in str(jax.make_jaxpr(lambda q, attend=attend: attend(q, q, q))(q)):
            found.append(name)
    assert found == kernels


def test_both_networks_leave_out_the_padding() -> None:
    seen = []

    def noting(name: str) -> Attention:
        def attend(q: jax.Array, k: jax.Array, v: jax.Array, *, valid: jax.Array | None = None):
            seen.append((name, None if valid is None else int(valid.sum())))
            return q

        return attend

    plan = Plan(with_dtype, attention=noting("encoder"), decoder_attention=noting("decoder"))
    q = jnp.zeros((1, 12, 1, HEAD_DIM))
    with Region(jnp.array([2]), jnp.array([3]), (3, 4)).current():
        for each in (masked_plan(plan), masked_plan(plan).for_decoder()):
            each.attention(q, q, q)
    assert seen == [("encoder", 6), ("decoder", 6)]

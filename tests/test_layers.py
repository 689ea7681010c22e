"""Layers against formulas written out in float64, where the golden vectors do not reach."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from aura_jax.arrays import relative_error
from aura_jax.config import HEAD_DIM, NORM_GROUPS
from aura_jax.dtypes import BFLOAT16
from aura_jax.model import layers
from convert.tolerances import FP32_MEAN, FP32_PARITY

OPTIONS = layers.LayerOptions(dtype=jnp.float32, param_dtype=jnp.float32, rngs=nnx.Rngs(0))


def group_norm(x: np.ndarray, epsilon: float = 1e-6) -> np.ndarray:
    b, h, w, c = x.shape
    groups = x.astype(np.float64).reshape(b, h * w, NORM_GROUPS, c // NORM_GROUPS)
    mean, var = (f(groups, axis=(1, 3), keepdims=True) for f in (np.mean, np.var))
    return ((groups - mean) / np.sqrt(var + epsilon)).reshape(x.shape)


@pytest.mark.parametrize(("batch", "size"), [(2, 2), (2, 33), (1, 256)])
@pytest.mark.parametrize("mean", [0.0, 100.0])
def test_group_norm_keeps_its_digits_far_from_zero(batch: int, size: int, mean: float):
    """The mean is known to 24 bits and no better; E[x²] - E[x]² would be 1e-3 off at 100."""
    x = np.random.default_rng(size).normal(mean, 1, (batch, size, size + 1, 64)).astype(np.float32)
    ours = jax.jit(layers.GroupNorm(64, **OPTIONS).__call__)(x)
    assert relative_error(np.asarray(ours), group_norm(x)) <= FP32_PARITY + mean * FP32_MEAN


def test_group_norm_of_a_constant_is_zero():
    x = jnp.full((1, 4, 4, 32), 7.0)
    np.testing.assert_array_equal(layers.GroupNorm(32, **OPTIONS)(x), jnp.zeros_like(x))


def attention(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    q, k, v = (x.astype(np.float64) for x in (q, k, v))
    logits = np.einsum("btnd,bsnd->bnts", q, k) / np.sqrt(HEAD_DIM)
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return np.einsum("bnts,bsnd->btnd", weights / weights.sum(-1, keepdims=True), v)


@pytest.mark.parametrize("queries", [1, 7, 50, 1000])
def test_attention_in_chunks_is_exact(monkeypatch: pytest.MonkeyPatch, queries: int):
    batch, tokens, heads = 2, 50, 3
    monkeypatch.setattr(layers, "LOGITS_BYTES", queries * 4 * batch * heads * tokens)
    x = np.random.default_rng(0).normal(size=(3, batch, tokens, heads, HEAD_DIM))
    q, k, v = x.astype(np.float32)
    ours = jax.jit(lambda q, k, v: layers.attention(q, k, v))(q, k, v)
    assert relative_error(np.asarray(ours), attention(q, k, v)) <= FP32_PARITY


def test_attention_in_float16_compiles_for_a_cpu():
    """As JAX's own does not: its float16 product is one of GPUs."""
    q, k, v = np.random.default_rng(0).normal(size=(3, 1, 6, 2, HEAD_DIM)).astype(np.float16)
    ours = jax.jit(layers.attention)(q, k, v)
    assert ours.dtype == np.float16
    assert relative_error(np.asarray(ours), attention(q, k, v)) <= 1e-3


def test_attention_never_holds_all_logits():
    """At 1024² all logits are 17 GB; what is held are the float32 logits of a chunk, thrice."""
    shape = jax.ShapeDtypeStruct((1, 128 * 128, 16, HEAD_DIM), jnp.bfloat16)
    compiled = jax.jit(layers.attention).lower(shape, shape, shape).compile()
    memory = compiled.memory_analysis()
    assert memory is not None
    assert memory.temp_size_in_bytes < 4 * layers.LOGITS_BYTES


def kernel_of_one_tap(row: int, column: int) -> np.ndarray:
    kernel = np.zeros((3, 3, 32, 32), np.float32)
    kernel[row, column] = np.eye(32)
    return kernel


def random(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def test_downsample_pads_right_and_bottom_only():
    down = layers.Downsample(32, **OPTIONS)
    down.conv.kernel[...] = kernel_of_one_tap(0, 0)
    for size in (4, 5):  # a kernel of one tap at its top left corner samples every second pixel
        x = random((1, size, size, 32))
        np.testing.assert_allclose(
            down(jnp.asarray(x)), x[:, 0 : size - 1 : 2, 0 : size - 1 : 2], rtol=1e-6
        )


def test_upsample_repeats_pixels():
    up = layers.Upsample(32, **OPTIONS)
    up.conv.kernel[...] = kernel_of_one_tap(1, 1)
    x = random((1, 3, 2, 32))
    np.testing.assert_allclose(up(jnp.asarray(x)), np.kron(x, np.ones((1, 2, 2, 1))), rtol=1e-6)


def test_convolutions_round_once():
    """With seeded values: two roundings have 1.4 times the error of one."""
    conv = layers.conv3x3(8, 8, dtype=BFLOAT16, param_dtype=BFLOAT16, rngs=nnx.Rngs(0))
    assert conv.bias is not None
    rng = np.random.default_rng(0)
    x, conv.bias[...] = (
        jnp.asarray(rng.normal(size=shape), jnp.bfloat16) for shape in ((1, 32, 32, 8), (8,))
    )
    y = conv(x)
    assert y.dtype == jnp.bfloat16
    kernel, bias = np.asarray(conv.kernel[...], np.float64), np.asarray(conv.bias[...], np.float64)
    padded = np.pad(np.asarray(x, np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))
    exact = np.einsum("bhwcij,ijco->bhwo", windows, kernel) + bias
    rounding = relative_error(exact.astype(jnp.bfloat16), exact)
    assert relative_error(np.asarray(y), exact) <= 1.01 * rounding

"""Every rewritten layer against the plain one: random weights, even and odd sizes, both types."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from aura_jax import AuraEquiVAE, arrays
from aura_jax.config import HEAD_DIM
from aura_jax.model import layers
from aura_jax.model.layers import GroupNorm, LayerOptions, Upsample, conv3x3
from aura_jax.runtime import rewrite
from aura_jax.runtime.kernels.attention import (
    deferred_attention,
    fastest_attention,
    flash_attention,
)
from aura_jax.runtime.kernels.group_norm import FusedGroupNorm
from aura_jax.runtime.kernels.upsample import FoldedUpsample
from aura_jax.runtime.kernels.winograd import WinogradConv
from aura_jax.runtime.rewrite import rewritten
from convert.tolerances import BF16_ROUNDINGS, FP32_FAST, FP32_PARITY

CHANNELS = 32
SIZES = [(1, 8, 8), (3, 7, 10), (1, 1, 5)]
F32, BF16 = np.dtype(np.float32), np.dtype(jnp.bfloat16)


def relative_error(x: jax.Array, reference: jax.Array) -> float:
    return arrays.relative_error(np.asarray(x), np.asarray(reference))


def options(dtype: np.dtype) -> LayerOptions:
    return LayerOptions(dtype=dtype, param_dtype=jnp.float32, rngs=nnx.Rngs(1))


def image(shape: tuple[int, ...], dtype: np.dtype) -> jax.Array:
    """Values whose mean is far from 0, as those of some layers are."""
    return (jax.random.normal(jax.random.key(2), (*shape, CHANNELS)) + 3).astype(dtype)


def randomised[M: nnx.Module](layer: M) -> M:
    """The layer with biases and scales that are not 0 and 1."""
    graph, state = nnx.split(layer)
    state = jax.tree.map(
        lambda x: x + 0.1 * jax.random.normal(jax.random.key(x.size), x.shape), state
    )
    return nnx.merge(graph, state)


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize(("dtype", "limit"), [(F32, FP32_PARITY), (BF16, 2 * BF16_ROUNDINGS)])
def test_upsampling_folded(shape: tuple[int, ...], dtype: np.dtype, limit: float) -> None:
    layer = randomised(Upsample(CHANNELS, **options(dtype)))
    x = image(shape, dtype)
    folded = FoldedUpsample(layer, dtype)(x)
    assert folded.dtype == dtype
    assert folded.shape == (shape[0], 2 * shape[1], 2 * shape[2], CHANNELS)
    exact = randomised(Upsample(CHANNELS, **options(F32)))(x.astype(F32))
    assert relative_error(folded, exact) <= limit


@pytest.mark.parametrize("shape", SIZES)
def test_winograd(shape: tuple[int, ...]) -> None:
    conv = randomised(conv3x3(CHANNELS, 2 * CHANNELS, **options(F32)))
    x = image(shape, F32)
    assert relative_error(WinogradConv(conv)(x), conv(x)) <= FP32_FAST


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("dtype", [F32, BF16])
def test_norm(shape: tuple[int, ...], dtype: np.dtype) -> None:
    norm = randomised(GroupNorm(CHANNELS, **options(dtype)))
    x = image(shape, dtype)
    fused = jax.jit(FusedGroupNorm(norm))(x)
    assert fused.dtype == F32
    assert relative_error(fused, norm(x)) <= FP32_PARITY


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
    q, k, v = 3 * jax.random.normal(jax.random.key(0), (3, 2, tokens, 2, HEAD_DIM))
    out = fastest_attention(dtype)(*(x.astype(dtype) for x in (q, k, v)))
    assert out.dtype == dtype
    rounded = (x.astype(dtype).astype(F32) for x in (q, k, v))
    assert relative_error(out, jax.nn.dot_product_attention(*rounded)) <= limit


def test_fast_is_winograd_for_wide_float32_alone(
    tiny_vae: AuraEquiVAE, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rewrite, "WINOGRAD_CHANNELS", 64)
    model = rewritten(tiny_vae, F32, "fast")
    assert isinstance(model.decoder.mid.block_1.conv1, WinogradConv)
    assert isinstance(model.decoder.up[0].block[1].conv1, nnx.Conv)  # 32 channels
    downsample = model.encoder.down[0].downsample
    assert downsample is not None
    assert isinstance(downsample.conv, nnx.Conv)  # of stride 2
    for other in (rewritten(tiny_vae, BF16, "fast"), rewritten(tiny_vae, F32, "highest")):
        assert isinstance(other.decoder.mid.block_1.conv1, nnx.Conv)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")  # TF32 would add to its rounding
    on_gpu = rewritten(tiny_vae, F32, "fast")
    assert isinstance(on_gpu.decoder.mid.block_1.conv1, nnx.Conv)


def test_the_model_stays_as_it_was(golden_vae: AuraEquiVAE) -> None:
    graph, state = nnx.split(golden_vae)
    before = jax.tree.map(np.asarray, state)
    rewritten(golden_vae, BF16, "fast")
    assert nnx.split(golden_vae)[0] == graph
    after = nnx.state(golden_vae)
    assert jax.tree.all(
        jax.tree.map(lambda a, b: a.dtype == b.dtype and (a == b).all(), before, after)
    )


@pytest.mark.parametrize(
    ("platform", "version", "capability", "dtype", "expected"),
    [
        ("gpu", "PJRT C API\ncuda 13000", "9.0", jnp.bfloat16, flash_attention),
        ("gpu", "PJRT C API\ncuda 12080", "8.0", jnp.float16, flash_attention),
        ("gpu", "PJRT C API\ncuda 12080", "9.0", jnp.float32, deferred_attention),
        ("gpu", "PJRT C API\ncuda 12080", "7.5", jnp.bfloat16, deferred_attention),
        ("gpu", "PJRT C API\nrocm 70000", "gfx942", jnp.bfloat16, deferred_attention),
        ("tpu", "libtpu", "", jnp.bfloat16, deferred_attention),
        ("cpu", "cpu", "", jnp.bfloat16, deferred_attention),
    ],
)
def test_cudnn_is_asked_only_where_it_can(
    monkeypatch: pytest.MonkeyPatch, platform: str, version: str, capability: str, dtype, expected
):
    client = SimpleNamespace(platform_version=version)
    device = SimpleNamespace(platform=platform, client=client, compute_capability=capability)
    monkeypatch.setattr(jax, "devices", lambda: [device])
    assert fastest_attention(np.dtype(dtype)) is expected

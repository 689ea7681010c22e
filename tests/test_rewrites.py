"""Every rewritten layer against the plain one: random weights, even and odd sizes, both types."""

from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.experimental.pallas import tpu
from jax.typing import DTypeLike

from aura_jax import AuraEquiVAE, arrays
from aura_jax.config import HEAD_DIM
from aura_jax.model import layers
from aura_jax.model.layers import (
    Attention,
    Downsample,
    GroupNorm,
    LayerOptions,
    Upsample,
    attention,
    conv1x1,
    conv3x3,
)
from aura_jax.runtime import plan
from aura_jax.runtime.kernels.attention import (
    cudnn_attention,
    deferred_attention,
    pallas_attention,
)
from aura_jax.runtime.kernels.conv import OutputFirstConv
from aura_jax.runtime.kernels.group_norm import FusedGroupNorm
from aura_jax.runtime.kernels.upsample import FoldedUpsample, TransposedUpsample
from aura_jax.runtime.kernels.winograd import WinogradConv
from aura_jax.runtime.plan import Precision, device_plan
from aura_jax.runtime.rewrite import rewritten
from convert.tolerances import BF16_ROUNDINGS, FP32_FAST, FP32_PARITY
from tests.conftest import Golden

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


@pytest.mark.parametrize("form", [FoldedUpsample, TransposedUpsample])
@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize(("dtype", "limit"), [(F32, FP32_PARITY), (BF16, 2 * BF16_ROUNDINGS)])
def test_upsampling(
    form: type[FoldedUpsample | TransposedUpsample],
    shape: tuple[int, ...],
    dtype: np.dtype,
    limit: float,
) -> None:
    layer = randomised(Upsample(CHANNELS, **options(dtype)))
    x = image(shape, dtype)
    folded = form(layer, dtype)(x)
    assert folded.dtype == dtype
    assert folded.shape == (shape[0], 2 * shape[1], 2 * shape[2], CHANNELS)
    exact = randomised(Upsample(CHANNELS, **options(F32)))(x.astype(F32))
    assert relative_error(folded, exact) <= limit


@pytest.mark.parametrize("shape", SIZES)
def test_winograd(shape: tuple[int, ...]) -> None:
    conv = randomised(conv3x3(CHANNELS, 2 * CHANNELS, **options(F32)))
    x = image(shape, F32)
    assert relative_error(jax.jit(WinogradConv(conv))(x), conv(x)) <= FP32_FAST


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("dtype", [F32, BF16])
def test_norm(shape: tuple[int, ...], dtype: np.dtype) -> None:
    norm = randomised(GroupNorm(CHANNELS, **options(dtype)))
    x = image(shape, dtype)
    fused = jax.jit(FusedGroupNorm(norm))(x)
    assert fused.dtype == F32
    assert relative_error(fused, norm(x)) <= FP32_PARITY


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize(("dtype", "limit"), [(F32, FP32_PARITY), (BF16, 2 * BF16_ROUNDINGS)])
def test_convolutions_with_outputs_first(
    shape: tuple[int, ...], dtype: np.dtype, limit: float
) -> None:
    x = image(shape, dtype)
    for layer in (
        conv3x3(CHANNELS, 2 * CHANNELS, **options(F32)),
        conv1x1(CHANNELS, 2 * CHANNELS, use_bias=False, **options(F32)),
        Downsample(CHANNELS, **options(F32)).conv,
    ):
        conv = randomised(layer)
        out = OutputFirstConv(conv, dtype)(x)
        assert out.dtype == dtype
        assert relative_error(out, conv(x.astype(F32))) <= limit


def check_attention(attend: Attention, tokens: int, dtype: np.dtype, limit: float) -> None:
    rng = np.random.default_rng(tokens)
    q, k, v = (jnp.asarray(3 * rng.standard_normal((2, tokens, 2, HEAD_DIM)), dtype) for _ in "qkv")
    out = attend(q, k, v)
    assert out.dtype == dtype
    exact = jax.nn.dot_product_attention(*(x.astype(F32) for x in (q, k, v)))
    assert relative_error(out, exact) <= limit


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
    rng = np.random.default_rng(0)
    q, k, v = (jnp.asarray(3 * rng.standard_normal((2, 35, 2, HEAD_DIM)), dtype) for _ in "qkv")
    valid = rng.random((2, 35)) < np.array([[0.3], [0.8]])
    with tpu.force_tpu_interpret_mode():
        out = attend(q, k, v, valid=jnp.asarray(valid))
    for i, mask in enumerate(valid):
        of = q[i : i + 1], k[i : i + 1, mask], v[i : i + 1, mask]
        exact = xla(*(x.astype(F32) for x in of))
        assert relative_error(out[i : i + 1], exact) <= limit


def absent(platform: str, capability: str = "9.0") -> Any:
    """Stand in for a device that is not here."""
    return SimpleNamespace(platform=platform, compute_capability=capability)


def rewritten_for(
    vae: AuraEquiVAE, platform: str, dtype: np.dtype, precision: Precision
) -> AuraEquiVAE:
    return rewritten(vae, dtype, device_plan(absent(platform), dtype, precision))


def test_fast_is_winograd_for_wide_float32_alone(
    tiny_vae: AuraEquiVAE, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "WINOGRAD_CHANNELS", 64)
    model = rewritten_for(tiny_vae, "cpu", F32, "fast")
    assert isinstance(model.decoder.mid.block_1.conv1, WinogradConv)
    assert isinstance(model.decoder.up[0].block[1].conv1, nnx.Conv)  # 32 channels
    downsample = model.encoder.down[0].downsample
    assert downsample is not None
    assert isinstance(downsample.conv, nnx.Conv)  # of stride 2
    for other in (
        rewritten_for(tiny_vae, "cpu", BF16, "fast"),
        rewritten_for(tiny_vae, "cpu", F32, "highest"),
    ):
        assert isinstance(other.decoder.mid.block_1.conv1, nnx.Conv)
    on_gpu = rewritten_for(tiny_vae, "gpu", F32, "fast")  # TF32 would add to its rounding
    assert isinstance(on_gpu.decoder.mid.block_1.conv1, OutputFirstConv)


@pytest.mark.parametrize("platform", ["gpu", "tpu", "rocm"])
def test_models_of_other_platforms_compute_the_same(
    platform: str, golden_vae: AuraEquiVAE, golden: Golden
) -> None:
    model = rewritten_for(golden_vae, platform, F32, "highest")
    decoded = jax.jit(type(model).decode)(model, golden["odd_latents"])
    assert arrays.relative_error(np.asarray(decoded), golden["odd_decoded"]) <= FP32_PARITY


def test_the_model_stays_as_it_was(golden_vae: AuraEquiVAE) -> None:
    graph, state = nnx.split(golden_vae)
    before = jax.tree.map(np.asarray, state)
    for platform in ("cpu", "gpu", "tpu"):
        rewritten_for(golden_vae, platform, BF16, "fast")
    assert nnx.split(golden_vae)[0] == graph
    after = nnx.state(golden_vae)
    assert jax.tree.all(
        jax.tree.map(lambda a, b: a.dtype == b.dtype and (a == b).all(), before, after)
    )


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

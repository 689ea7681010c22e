"""Every rewritten layer against the plain one: random weights, even and odd sizes, both types.

Whatever can run as one program does, since each operation alone would be compiled on its own.
"""

from collections.abc import Callable
from typing import Any, Unpack

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import aura_jax
from aura_jax import AuraEquiVAE
from aura_jax.arrays import relative_error
from aura_jax.model.layers import (
    Downsample,
    GroupNorm,
    LayerOptions,
    Upsample,
    conv1x1,
    conv3x3,
)
from aura_jax.runtime import plan
from aura_jax.runtime.kernels.conv import OutputFirstConv
from aura_jax.runtime.kernels.group_norm import FusedGroupNorm
from aura_jax.runtime.kernels.masked import Masked, MaskedNorm
from aura_jax.runtime.kernels.masks import REPEATED, ConvolvedMasks, Masks
from aura_jax.runtime.kernels.upsample import FoldedUpsample, TransposedUpsample
from aura_jax.runtime.kernels.winograd import WinogradConv
from aura_jax.runtime.plan import Precision, device_plan
from aura_jax.runtime.region import Region
from aura_jax.runtime.rewrite import rewritten
from convert.tolerances import BF16_ROUNDINGS, FP32_FAST, FP32_PARITY
from tests.absent_device import absent
from tests.conftest import Golden
from tests.recipes import disturb

CHANNELS = 32
SIZES = [(1, 8, 8), (3, 7, 10), (1, 1, 5)]
F32, BF16 = np.dtype(np.float32), np.dtype(jnp.bfloat16)


def options(dtype: np.dtype) -> LayerOptions:
    return LayerOptions(dtype=dtype, param_dtype=jnp.float32, rngs=nnx.Rngs(1))


def image(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Values whose mean is far from 0, as those of some layers are."""
    return np.random.default_rng(2).normal(3, 1, (*shape, CHANNELS)).astype(dtype)


def run(layer: Any, x: np.ndarray) -> np.ndarray:
    return np.asarray(jax.jit(layer)(x))


def randomised[M: nnx.Module](layer: M) -> M:
    """The layer with biases and scales that are not 0 and 1."""
    graph, state = nnx.split(layer)
    return nnx.merge(graph, disturb(state))


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
    folded = run(form(layer, dtype), x)
    assert folded.dtype == dtype
    assert folded.shape == (shape[0], 2 * shape[1], 2 * shape[2], CHANNELS)
    exact = run(randomised(Upsample(CHANNELS, **options(F32))), x.astype(F32))
    assert relative_error(folded, exact) <= limit


@pytest.mark.parametrize("shape", SIZES)
def test_winograd(shape: tuple[int, ...]) -> None:
    conv = randomised(conv3x3(CHANNELS, 2 * CHANNELS, **options(F32)))
    x = image(shape, F32)
    assert relative_error(run(WinogradConv(conv), x), run(conv, x)) <= FP32_FAST


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("dtype", [F32, BF16])
def test_norm(shape: tuple[int, ...], dtype: np.dtype) -> None:
    norm = randomised(GroupNorm(CHANNELS, **options(dtype)))
    x = image(shape, dtype)
    fused = run(FusedGroupNorm(norm), x)
    assert fused.dtype == F32
    assert relative_error(fused, run(norm, x)) <= FP32_PARITY


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
        out = run(OutputFirstConv(conv, dtype), x)
        assert out.dtype == dtype
        assert relative_error(out, run(conv, x.astype(F32))) <= limit


def transposed(channels: int, **options: Unpack[LayerOptions]) -> TransposedUpsample:
    return TransposedUpsample(Upsample(channels, **options), F32)


@pytest.mark.parametrize("masks", [REPEATED, ConvolvedMasks()])
@pytest.mark.parametrize("make", [Downsample, Upsample, transposed])
def test_masked_layers_see_the_valid_part_alone(
    masks: Masks, make: Callable[..., nnx.Module]
) -> None:
    norm = randomised(GroupNorm(CHANNELS, **options(F32)))
    conv = randomised(conv3x3(CHANNELS, CHANNELS, **options(F32)))
    resize = randomised(make(CHANNELS, **options(F32)))
    layers = (norm, conv, resize, norm, conv)
    padded, heights, widths = image((2, 8, 10), F32), np.array([7, 3]), np.array([6, 10])

    def masked(x: jax.Array) -> jax.Array:
        with Region(jnp.asarray(heights), jnp.asarray(widths), padded.shape[1:3]).current():
            for layer in layers:
                x = (MaskedNorm if layer is norm else Masked)(layer, masks)(x)
        return x

    result = run(masked, padded)
    for i, (height, width) in enumerate(zip(heights, widths, strict=True)):
        right = run(nnx.Sequential(*layers), padded[i : i + 1, :height, :width])
        part = result[i : i + 1, : right.shape[1], : right.shape[2]]
        assert relative_error(part, right) <= FP32_PARITY


@pytest.mark.parametrize(
    ("batch", "shards", "is_convolved"), [(7, 1, True), (8, 1, False), (8, 2, True)]
)
def test_a_tpu_convolves_masks_of_fewer_than_eight_images(
    batch: int, shards: int, is_convolved: bool
) -> None:
    plan = device_plan(absent("tpu"), F32, "highest", (shards, 1))

    def valid(x: jax.Array) -> jax.Array:
        sides = jnp.full(batch, 4)
        with Region(sides, sides, (8, 8)).current():
            return plan.masks.valid(x)

    x = jax.ShapeDtypeStruct((batch, 8, 8, 32), F32)
    assert jax.eval_shape(valid, x).shape == x.shape  # of no pixels that are repeated for channels
    assert ("conv_general_dilated" in str(jax.make_jaxpr(valid)(x))) == is_convolved


@pytest.mark.parametrize(("rows", "is_transposed"), [(1, True), (8, False)])
def test_tpus_that_share_rows_upsample_as_the_model(rows: int, is_transposed: bool) -> None:
    chosen = device_plan(absent("tpu"), BF16, "highest", (1, rows))
    assert (chosen.upsample is not None) == is_transposed


def rewritten_for(
    vae: AuraEquiVAE, device: Any, dtype: np.dtype, precision: Precision
) -> AuraEquiVAE:
    return rewritten(vae, dtype, device_plan(device, dtype, precision))


def layers_for(
    vae: AuraEquiVAE, platform: str, dtype: np.dtype, precision: Precision
) -> AuraEquiVAE:
    """The rewritten model without its values, which nothing need compile for."""
    return nnx.eval_shape(lambda: rewritten_for(vae, absent(platform), dtype, precision))


def test_fast_is_winograd_for_wide_float32_alone(
    tiny_vae: AuraEquiVAE, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "WINOGRAD_CHANNELS", 64)
    model = layers_for(tiny_vae, "cpu", F32, "fast")
    assert isinstance(model.decoder.mid.block_1.conv1, WinogradConv)
    assert isinstance(model.decoder.up[0].block[1].conv1, nnx.Conv)  # 32 channels
    downsample = model.encoder.down[0].downsample
    assert downsample is not None
    assert isinstance(downsample.conv, nnx.Conv)  # of stride 2
    for other in (
        layers_for(tiny_vae, "cpu", BF16, "fast"),
        layers_for(tiny_vae, "cpu", F32, "highest"),
    ):
        assert isinstance(other.decoder.mid.block_1.conv1, nnx.Conv)
    on_gpu = layers_for(tiny_vae, "gpu", F32, "fast")  # TF32 would add to its rounding
    assert isinstance(on_gpu.decoder.mid.block_1.conv1, OutputFirstConv)


@pytest.mark.parametrize(
    "device", [absent("gpu"), absent("gpu", "gfx942"), absent("tpu")], ids=["nvidia", "amd", "tpu"]
)
def test_models_of_other_platforms_compute_the_same(
    device: Any, tiny_vae: AuraEquiVAE, golden: Golden
) -> None:
    def decode(vae: AuraEquiVAE, z: jax.Array) -> jax.Array:
        return rewritten_for(vae, device, F32, "highest").decode(z)

    vae, z = randomised(tiny_vae), golden["odd_latents"]
    decoded = np.asarray(jax.jit(decode)(vae, z))
    assert relative_error(decoded, np.asarray(aura_jax.decode(vae, z))) <= FP32_PARITY


def test_the_model_stays_as_it_was(tiny_vae: AuraEquiVAE) -> None:
    graph, state = nnx.split(tiny_vae)
    before = jax.tree.map(np.asarray, state)
    for platform in ("cpu", "gpu", "tpu"):
        layers_for(tiny_vae, platform, BF16, "fast")
    assert nnx.split(tiny_vae)[0] == graph
    after = jax.tree.map(np.asarray, nnx.state(tiny_vae))
    assert jax.tree.all(
        jax.tree.map(lambda a, b: a.dtype == b.dtype and (a == b).all(), before, after)
    )

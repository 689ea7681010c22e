"""The port against float64 vectors of the reference: whole, stage by stage and at borders."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import aura_jax
from aura_jax import AuraEquiVAE
from aura_jax.arrays import relative_error
from aura_jax.config import HEAD_DIM, LATENT_LIMIT
from aura_jax.model import layers
from aura_jax.model.chains import Chain
from benchmarks.golden import OUTPUTS
from convert.stages import flax_outputs
from convert.tolerances import (
    BF16_AGAINST_TORCH,
    FP32_AGAINST_TORCH,
    FP32_BORDER,
    FP32_PARITY,
)
from tests.conftest import GOLDEN_WEIGHTS, Golden
from tests.random_models import random_vae
from tests.recipes import ONE_LEVEL


def run(vae: AuraEquiVAE, golden: Golden, output: str) -> np.ndarray:
    """The raw output of the network that makes this golden vector, from its golden input."""
    part, source = OUTPUTS[output]
    x = golden[source]
    x = x.clip(-LATENT_LIMIT, LATENT_LIMIT) if part == "decoder" else x
    pair = np.resize(x, (2, *x.shape[1:]))  # of all latents, so that they share a decoder
    return flax_outputs(vae, part, pair)["conv_out"][: len(x)]


@pytest.mark.parametrize("output", OUTPUTS)
def test_fp32_matches_float64(golden_vae: AuraEquiVAE, golden: Golden, output: str):
    error = relative_error(run(golden_vae, golden, output), golden[output])
    assert error <= FP32_PARITY
    if f"torch_f32.{output}" in golden:
        theirs = relative_error(golden[f"torch_f32.{output}"], golden[output])
        assert error <= FP32_AGAINST_TORCH * theirs


@pytest.mark.parametrize("output", ["latents", "decoded"])
def test_bf16_is_about_as_good_as_torch(golden: Golden, output: str):
    vae = aura_jax.load(GOLDEN_WEIGHTS, dtype=jnp.bfloat16)
    ours = run(vae, golden, output)
    assert ours.dtype == jnp.bfloat16
    theirs = relative_error(golden[f"torch_bf16.{output}"], golden[output])
    assert relative_error(ours, golden[output]) <= BF16_AGAINST_TORCH * theirs


def test_every_stage_matches_float64(golden_vae: AuraEquiVAE, golden: Golden):
    latents = golden["latents"].clip(-LATENT_LIMIT, LATENT_LIMIT)
    ours = {
        f"encoder.{k}": v for k, v in flax_outputs(golden_vae, "encoder", golden["images"]).items()
    }
    ours |= {f"decoder.{k}": v for k, v in flax_outputs(golden_vae, "decoder", latents).items()}
    taps = {name.removeprefix("tap."): x for name, x in golden.items() if name.startswith("tap.")}
    errors = {name: relative_error(ours[name][:1], x) for name, x in taps.items()}
    assert len(errors) == 24
    assert {name: e for name, e in errors.items() if not e <= FP32_PARITY} == {}


@pytest.mark.parametrize("output", OUTPUTS)
def test_border_pixels_match_on_their_own(golden_vae: AuraEquiVAE, golden: Golden, output: str):
    """A symmetric downsample has the right shape and a wrong border that averages can hide."""
    ours, exact = run(golden_vae, golden, output), golden[output]
    for border in (np.s_[:, :1], np.s_[:, -1:], np.s_[:, :, :1], np.s_[:, :, -1:]):
        assert relative_error(ours[border], exact[border]) <= FP32_BORDER


def test_encode_clamps_and_decode_does_not(golden: Golden):
    vae, images = random_vae(ONE_LEVEL), golden["images"][:, :8, :8]
    for network in (vae.encoder, vae.decoder):
        network.conv_out.kernel[...] *= 20
    raw = flax_outputs(vae, "encoder", images)["conv_out"]
    assert raw.max() > LATENT_LIMIT
    assert raw.min() < -LATENT_LIMIT
    np.testing.assert_array_equal(aura_jax.encode(vae, images), raw.clip(-8, 8))
    decoded = flax_outputs(vae, "decoder", raw)["conv_out"]
    assert np.abs(decoded).max() > LATENT_LIMIT
    np.testing.assert_array_equal(aura_jax.decode(vae, raw), decoded)


def symmetric_padding(monkeypatch: pytest.MonkeyPatch, vae: AuraEquiVAE) -> None:
    for level in vae.encoder.down:
        if level.downsample is not None:
            monkeypatch.setattr(level.downsample.conv, "padding", ((1, 1), (1, 1)))


def other_epsilon(monkeypatch: pytest.MonkeyPatch, vae: AuraEquiVAE) -> None:
    monkeypatch.setattr(layers, "NORM_EPSILON", 1e-5)


def heads_of_another_order(monkeypatch: pytest.MonkeyPatch, vae: AuraEquiVAE) -> None:
    """q, k and v of head after head, instead of all heads of q, then of k, then of v."""
    kernel = vae.encoder.mid.attn_1.qkv.kernel
    by_head = kernel[...].reshape(-1, 3, kernel.shape[-1] // 3 // HEAD_DIM, HEAD_DIM)
    kernel[...] = by_head.swapaxes(1, 2).reshape(kernel.shape)


def missing_swish(monkeypatch: pytest.MonkeyPatch, vae: AuraEquiVAE) -> None:
    monkeypatch.setattr(layers.nnx, "swish", lambda x: x)


@pytest.mark.parametrize(
    ("defect", "stage"),
    [
        (symmetric_padding, "down.0.downsample"),
        (other_epsilon, "down.0.block.0"),
        (missing_swish, "down.0.block.0"),
        (heads_of_another_order, "mid.attn_1"),
    ],
)
def test_the_measure_catches(
    monkeypatch: pytest.MonkeyPatch, golden: Golden, defect: Callable[..., None], stage: str
):
    """Up to the first stage that a defect changes, which compiles fast."""
    vae, images = aura_jax.load(GOLDEN_WEIGHTS, dtype=jnp.float32), golden["images"][:1]
    defect(monkeypatch, vae)
    # A new function, since a compiled one would not notice what has been replaced.
    output = jax.jit(lambda encoder, x: until(stage, encoder, x))(vae.encoder, images)
    assert relative_error(np.asarray(output), golden[f"tap.encoder.{stage}"]) > 2 * FP32_PARITY


def until(last: str, network: Chain, x: jax.Array) -> jax.Array:
    """The output of a stage."""
    for name, stage in network.stages:
        x = stage(x)
        if name == last:
            return x
    raise AssertionError(last)

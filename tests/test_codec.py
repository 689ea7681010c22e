"""Codec: parity, compilations, batches, 8-bit images, and what it refuses."""

import re
from typing import NoReturn

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from aura_jax import ArrayError, AuraEquiVAE, AuraError, Codec
from aura_jax.arrays import relative_error
from aura_jax.config import LATENT_LIMIT
from aura_jax.images.transforms import to_uint8
from aura_jax.runtime import plan, program
from benchmarks.golden import OUTPUTS
from convert.tolerances import BF16_AGAINST_TORCH, FP32_FAST, FP32_PARITY
from tests.conftest import Golden

IMAGES = np.random.default_rng(0).uniform(-1, 1, (3, 16, 24, 3)).astype(np.float32)
LEVELS = to_uint8(IMAGES)


@pytest.fixture(scope="module")
def codec(tiny_vae: AuraEquiVAE) -> Codec:
    """One codec for all tests but those of parity: each shape that it sees is a compilation."""
    return Codec(tiny_vae)


@pytest.fixture(scope="module")
def highest(golden_vae: AuraEquiVAE) -> Codec:
    return Codec(golden_vae)


@pytest.fixture(scope="module")
def fast(golden_vae: AuraEquiVAE) -> Codec:
    """With Winograd's convolutions in the widest layers of this narrow model."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "WINOGRAD_CHANNELS", 128)
        return Codec(golden_vae, precision="fast")


def run(codec: Codec, golden: Golden, output: str) -> np.ndarray:
    part, source = OUTPUTS[output]
    x = golden[source].clip(-LATENT_LIMIT, LATENT_LIMIT)
    pair = np.resize(x, (2, *x.shape[1:]))  # of all latents, so that they share a decoder
    return np.asarray((codec.encode if part == "encoder" else codec.decode)(pair))[: len(x)]


@pytest.mark.parametrize("output", OUTPUTS)
def test_fp32_matches_float64(highest: Codec, golden: Golden, output: str) -> None:
    error = relative_error(run(highest, golden, output), golden[output])
    assert error <= FP32_PARITY


@pytest.mark.parametrize("output", ["odd_latents", "odd_decoded"])
def test_fast_fp32_is_within_its_own_limit(fast: Codec, golden: Golden, output: str) -> None:
    assert relative_error(run(fast, golden, output), golden[output]) <= FP32_FAST


def test_fast_allows_tf32_and_highest_does_not(codec: Codec, tiny_vae: AuraEquiVAE) -> None:
    """JAX's precision "high" is TF32 on a GPU."""
    exact, rounded = (
        each._programs["decode"].lower((1, 2, 2, 16)).as_text()
        for each in (codec, Codec(tiny_vae, precision="fast"))
    )
    assert "HIGHEST" in exact
    assert "HIGHEST" not in rounded
    assert "HIGH" in rounded


@pytest.mark.parametrize("output", ["latents", "decoded"])
def test_bf16_is_about_as_good_as_torch(
    golden_vae: AuraEquiVAE, golden: Golden, output: str
) -> None:
    ours = run(Codec(golden_vae, dtype=jnp.bfloat16), golden, output)
    assert ours.dtype == jnp.bfloat16
    theirs = relative_error(golden[f"torch_bf16.{output}"], golden[output])
    assert relative_error(ours, golden[output]) <= BF16_AGAINST_TORCH * theirs


def test_takes_the_models_type(codec: Codec) -> None:
    assert codec.dtype == jnp.float32
    assert codec.encode(IMAGES.astype(np.float64)).dtype == jnp.float32


def test_repeated_shapes_compile_once(codec: Codec, caplog: pytest.LogCaptureFixture) -> None:
    with jax.log_compiles():
        for _ in range(3):
            codec.decode(codec.encode(IMAGES[:2, :8, :8]))
    assert caplog.text.count("Finished XLA compilation of jit(run)") == 2


def test_each_network_is_dispatched_with_its_own_weights_alone(
    tiny_vae: AuraEquiVAE, codec: Codec
) -> None:
    for part, network in (
        (codec._programs["encode"], tiny_vae.encoder),
        (codec._programs["decode"], tiny_vae.decoder),
    ):
        assert len(part.weights) == len(jax.tree.leaves(nnx.state(network)))


def test_attention_never_holds_every_pair_of_tokens(codec: Codec) -> None:
    def squares(batch: int, height: int, width: int) -> list[str]:
        text = codec._programs["encode"].compile((batch, height, width, 3)).as_text()
        tokens = height * width // codec.config.downsampling**2
        return re.findall(rf"\b{tokens},{tokens}\b", text or "")

    assert squares(3, 16, 24)  # few enough to be held, so the search finds what it is to find
    assert not squares(1, 256, 256)


def test_8_bit_images(codec: Codec) -> None:
    z = codec.encode(LEVELS)
    exact = codec.encode(LEVELS.astype(np.float32) / np.float32(127.5) - 1)
    np.testing.assert_allclose(z, exact, atol=1e-5)
    decoded = codec.decode(z, as_uint8=True)
    assert decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded, to_uint8(np.asarray(codec.decode(z))))


def test_shapes_that_exceed_the_memory_are_refused(
    codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "device_memory", lambda device: 100_000)
    message = r"images of shape \(1, 2, 2, 3\): needs .* MB of memory, .* has 100.0 kB; use"
    with pytest.raises(ArrayError, match=message):
        codec.encode(IMAGES[:1, :2, :2])
    monkeypatch.setattr(program.Program, "lower", lambda *_: pytest.fail("compiles again"))
    with pytest.raises(ArrayError, match=message):
        codec.encode(IMAGES[:1, :2, :2])


def test_a_compiler_without_memory_is_no_traceback(
    codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As XLA's compiler for TPUs refuses a program that does not fit."""

    def lower(*_: object) -> NoReturn:
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Ran out of memory in memory space")

    monkeypatch.setattr(program.Program, "lower", lower)
    message = r"images of shape \(2, 4, 2, 3\): needs more memory than the device has; use a small"
    with pytest.raises(ArrayError, match=message):
        codec.encode(IMAGES[:2, :4, :2])


def test_smaller_batches_are_padded_to_those_warmed_up(codec: Codec) -> None:
    alone = codec.encode(IMAGES)
    decoded = codec.decode(alone)
    codec.warmup([(8, 16, 24)], decode=False)  # the larger first
    codec.warmup([(4, 16, 24, 3)], guard=True)
    z = codec.encode(IMAGES)
    np.testing.assert_allclose(z, alone, atol=1e-5)
    np.testing.assert_allclose(codec.decode(z), decoded, atol=1e-5)
    assert {(8, 16, 24, 3), (4, 16, 24, 3)} <= {*codec._programs["encode"].shapes}
    assert codec.decode(jnp.asarray(z[:1]), as_uint8=True).shape == (1, 16, 24, 3)
    assert (1, 16, 24, 3) not in codec._programs["encode"].shapes
    codec.warmup([])


def test_guard_refuses_other_shapes(codec: Codec) -> None:
    decoders = codec._programs["decode"].shapes
    codec.warmup([(2, 8, 8)], guard=True, decode=False)
    assert codec._programs["decode"].shapes == decoders
    with pytest.raises(ArrayError, match=r"\(3, 8, 8, 3\): would compile, .* \(2, 8, 8, 3\)"):
        codec.encode(IMAGES[:, :8, :8])
    with pytest.raises(ArrayError, match=r"latents of shape \(2, 3, 3, 16\): would compile"):
        codec.decode(np.zeros((2, 3, 3, 16), np.float32))
    codec.warmup([])
    assert codec.encode(IMAGES[:, :8, :8]).shape == (3, 4, 4, 16)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (IMAGES[0], r"expected \[batch, height, width, 3\]"),
        (IMAGES.transpose(0, 3, 1, 2), "looks like NCHW"),
        (LEVELS.astype(np.int32), "int32: expected bfloat16, float16, float32, float64 or uint8"),
        (LEVELS[:, :1], "sides of 2 or more"),
        (IMAGES[:0], "one image or more"),
    ],
)
def test_images_that_are_refused(codec: Codec, images: np.ndarray, message: str) -> None:
    with pytest.raises(ArrayError, match=message):
        codec.encode(images)


def test_other_mistakes(codec: Codec, tiny_vae: AuraEquiVAE) -> None:
    with pytest.raises(ArrayError, match=r"latents .*uint8: expected bfloat16, float16, "):
        codec.decode(LEVELS.repeat(6, axis=-1)[..., :16])
    with pytest.raises(ArrayError, match=r"shape \(16, 24\): expected \(batch, height, width\)"):
        codec.warmup([(16, 24)])
    with pytest.raises(AuraError, match="expected bfloat16, float16 or float32"):
        Codec(tiny_vae, dtype=np.int8)

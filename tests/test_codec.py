"""Codec: parity, compilations, batches, 8-bit images, and what it refuses."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import aura_jax
from aura_jax import ArrayError, AuraEquiVAE, AuraError, Codec
from aura_jax.config import LATENT_LIMIT
from aura_jax.images.transforms import to_uint8
from aura_jax.runtime import program, rewrite
from aura_jax.runtime.rewrite import Precision
from benchmarks.parity import OUTPUTS
from convert.parity import relative_error
from convert.tolerances import BF16_AGAINST_TORCH, FP32_FAST, FP32_PARITY
from tests.conftest import Golden

IMAGES = np.random.default_rng(0).uniform(-1, 1, (3, 16, 24, 3)).astype(np.float32)
LEVELS = to_uint8(IMAGES)


@pytest.fixture
def codec(golden_vae: AuraEquiVAE) -> Codec:
    return Codec(golden_vae)


def run(codec: Codec, golden: Golden, output: str) -> np.ndarray:
    part, source = OUTPUTS[output]
    x = golden[source].clip(-LATENT_LIMIT, LATENT_LIMIT)
    return np.asarray((codec.encode if part == "encoder" else codec.decode)(x), np.float32)


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize(("precision", "limit"), [("highest", FP32_PARITY), ("fast", FP32_FAST)])
def test_fp32_matches_float64(
    golden_vae: AuraEquiVAE,
    golden: Golden,
    output: str,
    precision: Precision,
    limit: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rewrite, "WINOGRAD_CHANNELS", 32)  # every layer of a narrow model
    ours = run(Codec(golden_vae, precision=precision), golden, output)
    assert relative_error(ours, golden[output].clip(-LATENT_LIMIT, LATENT_LIMIT)) <= limit


@pytest.mark.parametrize("output", ["latents", "decoded"])
def test_bf16_is_about_as_good_as_torch(
    golden_vae: AuraEquiVAE, golden: Golden, output: str
) -> None:
    codec = Codec(golden_vae, dtype=jnp.bfloat16)
    assert codec.encode(IMAGES).dtype == jnp.bfloat16
    theirs = relative_error(golden[f"torch_bf16.{output}"], golden[output])
    ours = relative_error(run(codec, golden, output), golden[output])
    assert ours <= BF16_AGAINST_TORCH * theirs


def test_takes_the_models_type(golden_vae: AuraEquiVAE) -> None:
    assert Codec(golden_vae).dtype == jnp.float32
    assert Codec(golden_vae).encode(IMAGES.astype(np.float64)).dtype == jnp.float32


def test_repeated_shapes_compile_once(codec: Codec, caplog: pytest.LogCaptureFixture) -> None:
    with jax.log_compiles():
        for _ in range(3):
            codec.decode(codec.encode(IMAGES))
    assert caplog.text.count("Finished XLA compilation of jit(run)") == 2


def test_each_network_is_dispatched_with_its_own_weights_alone(
    golden_vae: AuraEquiVAE, codec: Codec
) -> None:
    for part, network in (
        (codec._encoder, golden_vae.encoder),
        (codec._decoder, golden_vae.decoder),
    ):
        assert len(part.weights) == len(jax.tree.leaves(nnx.state(network)))


def test_attention_never_holds_every_pair_of_tokens(codec: Codec) -> None:
    def squares(side: int) -> list[str]:
        text = codec._encoder.compile((1, side, side, 3)).as_text()
        tokens = (side // 8) ** 2
        return re.findall(rf"\b{tokens},{tokens}\b", text or "")

    assert squares(128)  # few enough to be held, so the search finds what it is to find
    assert not squares(1024)


def test_8_bit_images(codec: Codec) -> None:
    z = codec.encode(LEVELS)
    exact = codec.encode(LEVELS.astype(np.float32) / np.float32(127.5) - 1)
    np.testing.assert_allclose(z, exact, atol=1e-5)
    pictures = codec.decode(z, as_uint8=True)
    assert pictures.dtype == np.uint8
    np.testing.assert_array_equal(pictures, to_uint8(np.asarray(codec.decode(z))))


def test_smaller_batches_are_padded_to_those_warmed_up(
    codec: Codec, golden_vae: AuraEquiVAE
) -> None:
    codec.warmup([(8, 16, 24), (4, 16, 24, 3)], guard=True)  # the larger first
    z = codec.encode(IMAGES)
    np.testing.assert_allclose(z, aura_jax.encode(golden_vae, IMAGES), atol=1e-5)
    x = codec.decode(z)
    np.testing.assert_allclose(x, aura_jax.decode(golden_vae, z), atol=1e-5)
    assert codec.decode(jnp.asarray(z[:1]), as_uint8=True).shape == (1, 16, 24, 3)
    assert codec._encoder.shapes == [(8, 16, 24, 3), (4, 16, 24, 3)]


def test_guard_refuses_other_shapes(codec: Codec) -> None:
    codec.warmup([(2, 16, 24)], guard=True)
    with pytest.raises(ArrayError, match=r"\(3, 16, 24, 3\): would compile, .* \(2, 16, 24, 3\)"):
        codec.encode(IMAGES)
    with pytest.raises(ArrayError, match=r"latents of shape \(2, 3, 3, 16\): would compile"):
        codec.decode(np.zeros((2, 3, 3, 16), np.float32))
    codec.warmup([])
    assert codec.encode(IMAGES).shape == (3, 2, 3, 16)


def test_memory_that_is_not_there(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "device_memory", lambda: 1_000_000)
    message = r"images of shape \(3, 16, 24, 3\): .* MB of memory .* the device has 1 MB; take"
    with pytest.raises(ArrayError, match=message):
        codec.encode(IMAGES)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (IMAGES[0], r"expected \[batch, height, width, 3\]"),
        (IMAGES.transpose(0, 3, 1, 2), "looks like NCHW"),
        (LEVELS.astype(np.int32), "expected floats; for 8-bit images"),
        (LEVELS[:, :7], "sides of at least 8"),
        (IMAGES[:0], "an image or more"),
    ],
)
def test_images_that_are_refused(codec: Codec, images: np.ndarray, message: str) -> None:
    with pytest.raises(ArrayError, match=message):
        codec.encode(images)


def test_other_mistakes(codec: Codec, golden_vae: AuraEquiVAE) -> None:
    with pytest.raises(ArrayError, match=r"latents .*uint8: expected floats"):
        codec.decode(LEVELS.repeat(6, axis=-1)[..., :16])
    with pytest.raises(ArrayError, match=r"shape \(16, 24\): expected \(batch, height, width\)"):
        codec.warmup([(16, 24)])
    with pytest.raises(AuraError, match="expected bfloat16, float16 or float32"):
        Codec(golden_vae, dtype=np.int8)

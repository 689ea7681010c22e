"""encode and decode: shapes, types, compilations, and arrays they refuse."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import aura_jax
from aura_jax import ArrayError, AuraEquiVAE
from aura_jax.runtime import functional as inference
from tests.random_models import random_vae
from tests.recipes import ONE_LEVEL

IMAGES = np.zeros((2, 16, 24, 3), np.float32)


@pytest.fixture(scope="module")
def small_vae() -> AuraEquiVAE:
    """A model of one level, for tests that hold for any number."""
    return random_vae(ONE_LEVEL)


def test_shapes(tiny_vae: AuraEquiVAE):
    def shape_of(run: Callable[..., jax.Array], shape: tuple[int, ...]) -> tuple[int, ...]:
        x = jax.ShapeDtypeStruct(shape, jnp.float32)
        return jax.eval_shape(lambda x: run(tiny_vae, x), x).shape

    assert shape_of(aura_jax.encode, IMAGES.shape) == (2, 8, 12, 16)
    assert shape_of(aura_jax.decode, (2, 8, 12, 16)) == IMAGES.shape
    assert shape_of(aura_jax.encode, (1, 23, 9, 3)) == (1, 11, 4, 16)


@pytest.mark.parametrize("dtype", [np.float64, jnp.bfloat16])
def test_any_float_goes_in_and_the_compute_type_comes_out(small_vae: AuraEquiVAE, dtype):
    assert aura_jax.encode(small_vae, IMAGES.astype(dtype)).dtype == jnp.float32


def test_one_compilation_serves_a_shape_and_every_checkpoint(
    small_vae: AuraEquiVAE, monkeypatch: pytest.MonkeyPatch
):
    traced, encode = [], AuraEquiVAE.encode
    monkeypatch.setattr(AuraEquiVAE, "encode", lambda s, x: traced.append(x.shape) or encode(s, x))
    other = jax.tree.map(lambda p: jnp.asarray(np.asarray(p) * 2), small_vae)
    for vae in (small_vae, other, small_vae):
        aura_jax.encode(vae, np.zeros((1, 2, 10, 3), np.float32))
    assert traced == [(1, 2, 10, 3)]


def test_weights_are_arguments_and_not_constants(golden_vae: AuraEquiVAE):
    lowered = inference._decode.lower(golden_vae, jnp.zeros((1, 1, 1, 16)))
    assert len(lowered.as_text()) < 1_000_000  # the weights alone would be 11 MB


def test_float32_is_at_highest_precision_whatever_is_set(tiny_vae: AuraEquiVAE):
    with jax.default_matmul_precision("default"):
        encode = inference._encode.lower(tiny_vae, IMAGES).as_text()
        decode = inference._decode.lower(tiny_vae, jnp.zeros((1, 1, 1, 16))).as_text()
    for text in (encode, decode):
        assert "HIGHEST" in text
        assert "DEFAULT" not in text


def test_inside_another_jit_with_gradients(small_vae: AuraEquiVAE):
    @jax.jit
    @jax.grad
    def gradient(x: jax.Array) -> jax.Array:
        return aura_jax.decode(small_vae, aura_jax.encode(small_vae, x)).mean()

    assert jnp.isfinite(gradient(jnp.asarray(IMAGES + 0.1))).all()


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (IMAGES.transpose(0, 3, 1, 2), r"\(2, 3, 16, 24\) .* 3 channels .* looks like NCHW"),
        (IMAGES[0], r"\(16, 24, 3\) .*: expected \[batch, height, width, 3\]"),
        (IMAGES[..., :2], r"\(2, 16, 24, 2\) .*: expected 3 channels on the last axis"),
        (
            IMAGES.astype(np.uint8),
            "uint8: expected bfloat16, .*; convert 8-bit levels with x / 127.5 - 1",
        ),
        (IMAGES[:, :7], r"\(2, 7, 24, 3\) .* sides of 8 or more"),
        (IMAGES[:0], r"\(0, 16, 24, 3\) .* expected one image or more"),
        (IMAGES + 255, r"range over \[255, 255\]: expected about \[-1, 1\]"),
        (IMAGES - 3, r"range over \[-3, -3\]"),
        (IMAGES + np.nan, r"range over \[nan, nan\]"),
    ],
)
@pytest.mark.parametrize("convert", [np.asarray, jnp.asarray])
def test_images_that_are_refused(golden_vae: AuraEquiVAE, images, message: str, convert):
    with pytest.raises(ArrayError, match=message):
        aura_jax.encode(golden_vae, convert(images))


@pytest.mark.parametrize(
    ("latents", "message"),
    [
        (np.zeros((1, 16, 4, 4), np.float32), "16 channels on the last axis; this looks like NCHW"),
        (np.zeros((4, 4, 16), np.float32), r"expected \[batch, height, width, 16\]"),
        (np.zeros((1, 4, 4, 16), np.int8), "int8: expected bfloat16, float16, float32 or float64"),
    ],
)
def test_latents_that_are_refused(golden_vae: AuraEquiVAE, latents, message: str):
    with pytest.raises(ArrayError, match=message):
        aura_jax.decode(golden_vae, latents)

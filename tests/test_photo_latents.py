"""Photographs through a model: what is flipped, what it is held against, what is cut out."""

import numpy as np
import pytest

import aura_jax
from aura_jax import AuraEquiVAE, Codec
from aura_jax.images.transforms import to_uint8
from aura_jax.photo_latents import encode_photo, reconstructions

PIXELS = np.random.default_rng(0).uniform(-1, 1, (21, 30, 3)).astype(np.float32)
ELEMENTS = {"none": (False, False), "h": (True, False), "v": (False, True), "hv": (True, True)}


@pytest.fixture(scope="module")
def codec(golden_vae: AuraEquiVAE) -> Codec:
    return Codec(golden_vae)


def test_padding_lies_right_and_below(codec: Codec):
    latent = encode_photo(codec, PIXELS)
    padded = np.pad(PIXELS, ((0, 3), (0, 2), (0, 0)), mode="edge")
    np.testing.assert_array_equal(latent.values, codec.encode(padded[None])[0])
    assert latent.box == (0, 0, 30, 21)


@pytest.mark.parametrize("name", ELEMENTS)
def test_reconstructions_are_decoded_from_flipped_latents(codec: Codec, name: str):
    horizontal, vertical = ELEMENTS[name]
    padded = np.pad(PIXELS, ((0, 3), (0, 2), (0, 0)), mode="edge")
    z = codec.encode(padded[None])
    z = aura_jax.flip_latents(z, horizontal=horizontal, vertical=vertical)
    decoded = np.asarray(codec.decode(z, as_uint8=True)[0])
    expected = decoded[3 if vertical else 0 :, 2 if horizontal else 0 :][:21, :30]
    flip = (slice(None, None, -1 if vertical else 1), slice(None, None, -1 if horizontal else 1))
    squares = (expected.astype(float) - to_uint8(PIXELS)[flip]) ** 2

    version = reconstructions(codec, PIXELS)[name]
    np.testing.assert_array_equal(version.image, expected)
    assert version.psnr == pytest.approx(10 * np.log10(255**2 / squares.mean()), rel=1e-5)

"""The embedded checkpoint on photographs that it was not trained on: quality and exact flips."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage.metrics import structural_similarity

import aura_jax
from aura_jax import AuraEquiVAE, flip_images, flip_latents
from aura_jax.images.quality import psnr
from aura_jax.images.transforms import square_pixels, to_uint8
from aura_jax.latents import normalize
from aura_jax.symmetry import FLIPS
from examples.sample_photographs import HELD_OUT, TRAIN
from tests.photo_folder import read_image

SIDE = 256


@pytest.fixture(scope="module")
def small() -> AuraEquiVAE:
    return aura_jax.load("small", dtype=jnp.float32)


@pytest.fixture(scope="module")
def photos() -> np.ndarray:
    """All photographs held out, as centered squares [3, 256, 256, 3]."""
    return np.stack([square_pixels(read_image(path), SIDE) for path in HELD_OUT])


@pytest.fixture(scope="module")
def latents(small: AuraEquiVAE, photos: np.ndarray) -> jax.Array:
    return aura_jax.encode(small, photos)


@pytest.fixture(scope="module")
def decoded(small: AuraEquiVAE, latents: jax.Array) -> np.ndarray:
    return np.asarray(aura_jax.decode(small, latents))


def quality(a: np.ndarray, b: np.ndarray) -> float:
    """Mean PSNR of images in decibels."""
    pairs = zip(np.asarray(a), np.asarray(b), strict=True)
    return float(np.mean([psnr(to_uint8(x), to_uint8(y)) for x, y in pairs]))


def test_photographs_held_out_are_not_trained_on() -> None:
    assert {"astronaut.png", "chelsea.png"} <= {path.name for path in HELD_OUT}
    assert not set(HELD_OUT) & set(TRAIN)


def test_reconstructions(photos: np.ndarray, decoded: np.ndarray) -> None:
    assert quality(decoded, photos) >= 27.9
    levels = zip(to_uint8(photos), to_uint8(decoded), strict=True)
    ssim = [structural_similarity(x, y, channel_axis=-1) for x, y in levels]
    assert np.mean(ssim) >= 0.84


def test_flips_of_latents_are_exact_with_their_signs(
    small: AuraEquiVAE, photos: np.ndarray, latents: jax.Array, decoded: np.ndarray
) -> None:
    """One flip of each photograph."""
    flips = [FLIPS[name] for name in ("h", "v", "hv")]

    def flipped(act: Callable[..., Any], batch: jax.Array | np.ndarray) -> np.ndarray:
        return np.stack([act(np.asarray(x), **g) for x, g in zip(batch, flips, strict=True)])

    signed, unsigned = (
        np.asarray(aura_jax.decode(small, flipped(act, latents)))
        for act in (flip_latents, flip_images)
    )
    for a, b in zip(signed, flipped(flip_images, decoded), strict=True):
        assert psnr(a, b) >= 120
    for a, b, target in zip(signed, unsigned, flipped(flip_images, photos), strict=True):
        assert psnr(to_uint8(b), to_uint8(target)) <= psnr(to_uint8(a), to_uint8(target)) - 3


def test_its_statistics_are_about_those_of_other_photographs(
    small: AuraEquiVAE, latents: jax.Array
) -> None:
    numbers = np.asarray(normalize(latents, small)).reshape(-1, 16)
    assert np.abs(numbers[:, :12].mean(axis=0)).max() < 1
    assert (numbers.std(axis=0) > 0.4).all()
    assert (numbers.std(axis=0) < 1.6).all()
    assert small.latent_stats is not None
    assert "sample photographs that the model was trained on" in small.latent_stats.description


def test_noise_of_the_training_costs_little(
    small: AuraEquiVAE, photos: np.ndarray, latents: jax.Array, decoded: np.ndarray
) -> None:
    noisy = aura_jax.decode(small, aura_jax.perturb(jax.random.key(0), latents, sigma=0.1))
    assert 0 < quality(decoded, photos) - quality(np.asarray(noisy), photos) <= 0.5


@pytest.mark.parametrize("side", [128, 512])
def test_other_sizes_are_at_most_a_decibel_worse(
    small: AuraEquiVAE, photos: np.ndarray, decoded: np.ndarray, side: int
) -> None:
    """On one photograph; below 256 of the same pixels, cut up, since fewer would show more."""
    pixels = square_pixels(read_image(HELD_OUT[0]), max(side, SIDE))
    count = len(pixels) // side
    pieces = pixels.reshape(count, side, count, side, 3).swapaxes(1, 2).reshape(-1, side, side, 3)
    again = np.asarray(aura_jax.decode(small, aura_jax.encode(small, pieces)))
    found = psnr(to_uint8(np.vstack([*again])), to_uint8(np.vstack([*pieces])))
    assert found >= quality(decoded[:1], photos[:1]) - 1

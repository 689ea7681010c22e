"""The embedded checkpoint on photographs that it was not trained on: quality and learned flips."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import aura_jax
from aura_jax import AuraEquiVAE
from aura_jax.equivariance import FLIPS, SIGMAS, Measures, measure
from aura_jax.images.io import read_image
from aura_jax.images.transforms import square_pixels, to_uint8
from aura_jax.photo_latents import psnr
from examples.sample_photographs import HELD_OUT, TRAIN

SIDE = 256


@pytest.fixture(scope="module")
def small() -> AuraEquiVAE:
    return aura_jax.load("small", dtype=jnp.float32)


@pytest.fixture(scope="module")
def measures(small: AuraEquiVAE) -> list[Measures]:
    squares = [square_pixels(read_image(path), SIDE) for path in HELD_OUT]
    return [measure(small, pixels, jax.random.key(0)) for pixels in squares]


def mean(values: list[float]) -> float:
    return float(np.mean(values))


def test_photographs_held_out_are_not_trained_on() -> None:
    assert {"astronaut.png", "chelsea.png"} <= {path.name for path in HELD_OUT}
    assert not set(HELD_OUT) & set(TRAIN)


def test_reconstructions(measures: list[Measures]) -> None:
    assert mean([m.reconstruction.psnr_db for m in measures]) >= 27
    assert mean([m.reconstruction.ssim for m in measures]) >= 0.8


@pytest.mark.parametrize("name", FLIPS)
def test_flips_are_learned_with_their_signs(measures: list[Measures], name: str) -> None:
    unflipped = mean([m.reconstruction.psnr_db for m in measures])
    signed, unsigned = (
        mean([errors[name].round_trip.psnr_db for errors in group])
        for group in ([m.signed for m in measures], [m.unsigned for m in measures])
    )
    assert mean([m.signed[name].decoder.psnr_db for m in measures]) >= 33
    assert abs(signed - unflipped) <= 0.3
    assert unsigned <= signed - 3


def test_noise_of_the_training_costs_little(measures: list[Measures]) -> None:
    curves = np.array([m.noise["multiplicative"] for m in measures])
    cost = curves[:, 0] - curves[:, SIGMAS.index(0.1)]
    assert 0 < cost.mean() <= 0.5


@pytest.mark.parametrize("side", [128, 512])
def test_other_sizes_are_at_most_a_decibel_worse(
    small: AuraEquiVAE, measures: list[Measures], side: int
) -> None:
    found = mean([quality(small, path, side) for path in HELD_OUT])
    assert found >= mean([m.reconstruction.psnr_db for m in measures]) - 1


def quality(vae: AuraEquiVAE, path: Path, side: int) -> float:
    """PSNR at another size; below 256 of the same pixels, cut up, since fewer would show more."""
    pixels = square_pixels(read_image(path), max(side, SIDE))
    count = len(pixels) // side
    pieces = pixels.reshape(count, side, count, side, 3).swapaxes(1, 2).reshape(-1, side, side, 3)
    decoded = np.asarray(aura_jax.decode(vae, aura_jax.encode(vae, pieces)))
    return psnr(to_uint8(np.vstack([*decoded])), to_uint8(np.vstack([*pieces])))

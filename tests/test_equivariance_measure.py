"""The measures of the equivariance report: that they are what they are called."""

import dataclasses
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import aura_jax
from aura_jax import AuraEquiVAE
from aura_jax.equivariance import (
    FLIPS,
    SIGMAS,
    Distance,
    LatentDistance,
    Measures,
    SignRule,
    border_and_interior,
    correlation_map,
    image_distance,
    latent_distance,
    measure,
    noise_curves,
    recovered_rule,
    report,
)
from aura_jax.images.transforms import Pixels, square_pixels
from convert.tolerances import EQUIVARIANCE, NOT_EQUIVARIANT
from tests.conftest import GOLDEN_WEIGHTS, ROOT
from tests.mirrored import with_mirrored_decoder
from tests.photo_folder import read_image

SIDE = 40  # pixels: the smallest that has an interior and is a multiple of 8
KEY = jax.random.key(0)
SIGNS = {  # written out, not computed
    "h": (1,) * 12 + (-1, -1, 1, 1),
    "v": (1,) * 12 + (1, 1, -1, -1),
    "hv": (1,) * 12 + (-1, -1, -1, -1),
}
AXES = {"h": (1,), "v": (0,), "hv": (0, 1)}  # of [H, W, C]


@pytest.fixture(scope="module")
def pixels() -> Pixels:
    return square_pixels(read_image(ROOT / "examples" / "chelsea.jpg"), SIDE)


@pytest.fixture(scope="module")
def vae() -> AuraEquiVAE:
    return aura_jax.load(GOLDEN_WEIGHTS, dtype=jnp.float32, param_dtype=jnp.float32)


@pytest.fixture(scope="module")
def measured(vae: AuraEquiVAE, pixels: Pixels) -> Measures:
    return measure(vae, pixels, KEY)


@pytest.fixture(scope="module")
def mirrored(vae: AuraEquiVAE, pixels: Pixels) -> Measures:
    return measure(with_mirrored_decoder(vae), pixels, KEY)


def test_distances_in_decibels():
    reference = np.full((2, 3, 3), -0.5, np.float32)
    assert image_distance(reference + np.float32(0.02), reference) == Near(40, 0.04)
    assert latent_distance(reference * np.float32(1.1), reference) == Near(20, 0.1)
    assert image_distance(reference, reference) == Distance(np.inf, 0.0)
    assert latent_distance(reference, reference) == LatentDistance(np.inf, 0.0)
    assert latent_distance(reference, 0 * reference) == LatentDistance(-np.inf, np.inf)


def test_the_border_is_16_pixels_wide():
    reference = np.full((41, 36, 3), 0.5, np.float32)
    image = reference.copy()
    image[16:25, 16:20] += np.float32(0.2)
    border, interior = border_and_interior(image, reference)
    assert border == Distance(np.inf, 0.0)
    assert interior.psnr_db == pytest.approx(20, abs=1e-4)
    image = reference + np.float32(0.02)
    image[16:25, 16:20] = reference[16:25, 16:20]
    border, interior = border_and_interior(image, reference)
    assert border.psnr_db == pytest.approx(40, abs=1e-4)
    assert interior == Distance(np.inf, 0.0)


@pytest.mark.parametrize("name", FLIPS)
def test_a_mirrored_decoder_is_equivariant_and_without_signs_it_is_not(
    mirrored: Measures, name: str
):
    signed, unsigned = mirrored.signed[name], mirrored.unsigned[name]
    for part in (signed.decoder, signed.border, signed.interior):
        assert part.relative_l2 <= EQUIVARIANCE
        assert part.psnr_db > 90
    for part in (unsigned.decoder, unsigned.border, unsigned.interior):
        assert part.relative_l2 > NOT_EQUIVARIANT
        assert part.psnr_db < 30
    # So what comes back from the flipped latent is as good as what comes back unflipped.
    assert signed.round_trip.psnr_db == pytest.approx(mirrored.reconstruction.psnr_db, abs=1e-3)
    assert abs(unsigned.round_trip.psnr_db - mirrored.reconstruction.psnr_db) > 0.01


@pytest.mark.parametrize("name", FLIPS)
def test_measures_match_independent_formulas(
    vae: AuraEquiVAE, measured: Measures, pixels: Pixels, name: str
):
    """Written again, with numpy's flip and a formula each."""
    axes, signs = AXES[name], np.array(SIGNS[name], np.float32)
    z = run(aura_jax.encode, vae, pixels)
    encoded = run(aura_jax.encode, vae, np.flip(pixels, axes))
    decoded = run(aura_jax.decode, vae, z).clip(-1, 1)
    for errors, flipped in (
        (measured.signed[name], np.flip(z, axes) * signs[None, None]),
        (measured.unsigned[name], np.flip(z, axes)),
    ):
        image = run(aura_jax.decode, vae, flipped).clip(-1, 1)
        assert errors.decoder == distance(image, np.flip(decoded, axes))
        assert errors.round_trip == distance(image, np.flip(pixels, axes))
        noise = relative(encoded, flipped)
        assert errors.encoder == Near(-20 * np.log10(noise), noise)
    corner = np.corrcoef(encoded[..., 3].ravel(), np.flip(z, axes)[..., 5].ravel())[0, 1]
    assert measured.correlation[name][3, 5] == pytest.approx(corner, abs=1e-4)


def test_the_reconstruction(vae: AuraEquiVAE, measured: Measures, pixels: Pixels):
    decoded = run(aura_jax.decode, vae, run(aura_jax.encode, vae, pixels))
    expected = distance(decoded.clip(-1, 1), pixels)
    reconstruction = measured.reconstruction
    assert Distance(reconstruction.psnr_db, reconstruction.relative_l2) == expected
    assert 0 < reconstruction.ssim < 0.5  # untrained, yet of the same brightness here and there


def test_a_report_of_them_is_strict_json(measured: Measures):
    document = report({"a.png": measured}, weights="w", size=SIDE, seed=0, dtype="float32")
    assert json.loads(json.dumps(document, allow_nan=False)) == document


def test_noise_curves_start_at_the_reconstruction(mirrored: Measures):
    assert list(mirrored.noise) == ["multiplicative", "additive"]
    for curve in mirrored.noise.values():
        assert len(curve) == len(SIGMAS)
        assert curve[0] == mirrored.reconstruction.psnr_db


def test_noise_takes_an_image_away_from_what_its_latent_decodes_to(vae: AuraEquiVAE):
    z = np.asarray(jax.random.normal(KEY, (5, 5, 16)) + 0.5)
    image = run(aura_jax.decode, vae, z).clip(-1, 1)
    curves = noise_curves(vae, image, z, KEY)
    for curve in curves.values():
        assert curve[0] == np.inf
        assert all(np.diff(curve[1:]) < 0)

    n = np.asarray(jax.random.normal(KEY, z.shape))
    for kind, noisy in (("multiplicative", z * (1 + 0.2 * n)), ("additive", z + 0.2 * z.std() * n)):
        expected = distance(run(aura_jax.decode, vae, noisy).clip(-1, 1), image)
        assert curves[kind][SIGMAS.index(0.2)] == pytest.approx(expected.decibels, abs=1e-2)


@pytest.mark.parametrize("name", FLIPS)
def test_planted_signs_are_recovered(name: str):
    rng = np.random.default_rng(0)
    z = rng.normal(1, 2, (9, 8, 16))
    encoded = z * SIGNS[name] + rng.normal(0, 1, z.shape)
    correlation = correlation_map(encoded, z)
    rule = recovered_rule(correlation, **FLIPS[name])
    assert rule == SignRule(SIGNS[name], SIGNS[name])
    assert rule.agrees
    joint = np.corrcoef(encoded.reshape(-1, 16).T, z.reshape(-1, 16).T)
    np.testing.assert_allclose(correlation, joint[:16, 16:], atol=1e-12)


def test_another_rule_is_told_from_the_documented_one():
    z = np.random.default_rng(0).normal(size=(9, 8, 16))
    other = (-1, -1) + (1,) * 14
    rule = recovered_rule(correlation_map(z * other, z), **FLIPS["h"])
    assert rule == SignRule(other, SIGNS["h"])
    assert not rule.agrees
    assert not recovered_rule(correlation_map(z * SIGNS["v"], z), **FLIPS["h"]).agrees


def test_channels_that_show_no_sign():
    z = np.random.default_rng(0).normal(size=(30, 30, 4))
    encoded = z.copy()
    encoded[..., 0] = 3  # constant
    encoded[..., 1] = z[::-1, ::-1, 1]  # unrelated
    correlation = correlation_map(encoded, z)
    assert (correlation[0] == 0).all()
    rule = recovered_rule(correlation, **FLIPS["v"])
    assert rule == SignRule((0, 0, 1, 1), (1, 1, -1, -1))


def run(function: Any, vae: AuraEquiVAE, x: np.ndarray) -> np.ndarray:
    return np.asarray(function(vae, np.ascontiguousarray(x[None], np.float32))[0])


def relative(x: np.ndarray, reference: np.ndarray) -> float:
    return float(np.linalg.norm(x - reference) / np.linalg.norm(reference))


@dataclasses.dataclass(frozen=True)
class Near:
    """Equal to distances that differ by rounding alone."""

    decibels: float
    relative_l2: float

    def __eq__(self, other: object) -> bool:
        assert isinstance(other, Distance | LatentDistance)
        return dataclasses.astuple(other) == pytest.approx(
            (self.decibels, self.relative_l2), rel=1e-4
        )


def distance(x: np.ndarray, reference: np.ndarray) -> Near:
    squares = np.square(x.astype(float) - reference)
    return Near(10 * np.log10(4 / squares.mean()), relative(x, reference))

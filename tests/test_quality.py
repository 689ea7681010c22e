"""PSNR and SSIM against scikit-image."""

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from aura_jax.images import psnr, ssim
from aura_jax.images.transforms import Pixels8, to_float

WANG = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "channel_axis": -1}


def noisy(image: np.ndarray) -> Pixels8:
    noise = np.random.default_rng(1).integers(-9, 10, image.shape)
    return np.clip(image.astype(int) + noise, 0, 255).astype(np.uint8)


RAMP = np.linspace(0, 255, 43)[None, :, None]
IMAGES = {
    "noise": np.random.default_rng(0).integers(0, 256, (24, 43, 3), np.uint8),
    "bright": np.full((24, 43, 3), 240, np.uint8),  # where float32 is off by 5e-5
    "dark": np.zeros((24, 43, 3), np.uint8),
    "smooth": np.broadcast_to(RAMP, (24, 43, 3)).astype(np.uint8),
    "small": np.random.default_rng(0).integers(0, 256, (11, 11, 3), np.uint8),
}


@pytest.mark.parametrize("original", IMAGES.values(), ids=IMAGES.keys())
def test_measures_are_those_of_scikit_image(original: Pixels8):
    image = noisy(original)
    decibels = peak_signal_noise_ratio(original, image, data_range=255)
    similarity = structural_similarity(original, image, data_range=255, **WANG)
    assert psnr(image, original) == pytest.approx(decibels, rel=1e-12)
    assert ssim(image, original) == pytest.approx(similarity, abs=1e-9)
    # Floats in [-1, 1] give the same numbers.
    floats = to_float(image), to_float(original)
    assert psnr(*floats) == pytest.approx(decibels, rel=1e-6)
    assert ssim(*floats) == pytest.approx(similarity, abs=1e-6)


@pytest.mark.parametrize("original", IMAGES.values(), ids=IMAGES.keys())
def test_equal_images(original: Pixels8):
    assert psnr(original, original) == np.inf
    assert ssim(original, original) == pytest.approx(1, abs=1e-9)

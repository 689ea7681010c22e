"""PSNR and SSIM against scikit-image."""

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from aura_jax import ArrayError
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


NOISE = IMAGES["noise"]


@pytest.mark.parametrize(
    ("image", "reference", "message"),
    [
        (NOISE, to_float(NOISE), "dtype uint8 and reference of dtype float32: expected both"),
        (to_float(NOISE), NOISE, "dtype float32 and reference of dtype uint8: expected both"),
        (NOISE.astype(int), NOISE.astype(int), "image of dtype int64: expected uint8, bfloat16"),
        (NOISE, NOISE > 3, "reference of dtype bool: expected uint8"),
        (NOISE, NOISE[:1], r"reference of shape \(1, 43, 3\): expected the same shape"),
        (NOISE[:0], NOISE[:0], "one value or more"),
    ],
)
@pytest.mark.parametrize("measure", [psnr, ssim])
def test_arrays_that_cannot_be_compared_are_refused(measure, image, reference, message: str):
    with pytest.raises(ArrayError, match=message):
        measure(image, reference)


@pytest.mark.parametrize("shape", [(10, 11, 3), (24, 43), (24, 43, 1), (2, 24, 43, 3)])
def test_ssim_takes_one_image_that_its_window_fits_in(shape: tuple[int, ...]):
    image = np.zeros(shape, np.uint8)
    with pytest.raises(ArrayError, match="expected"):
        ssim(image, image)

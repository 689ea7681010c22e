"""Compare an image with a reference: PSNR and SSIM."""

import math
from typing import Any

import dm_pix
import jax
import numpy as np
from jaxtyping import Float, UInt8

from aura_jax.images.transforms import Pixels, Pixels8

PEAK = 2.0  # floats lie in [-1, 1]
PEAK_8_BIT = 255.0

type Values = Float[np.ndarray, "*_"] | UInt8[np.ndarray, "*_"]


def psnr(image: Values, reference: Values) -> float:
    """Compute the peak signal-to-noise ratio in decibels, over all pixels and channels.

    It is 10·log10(peak² / mean squared error) in float64. The peak is 255 for 8-bit levels and 2
    for floats in [-1, 1], which gives the same number.

    Args:
        image: values of any shape, 8-bit levels or floats in [-1, 1].
        reference: values of the same shape and type.

    Returns:
        Decibels; infinite if both are equal.
    """
    peak = PEAK_8_BIT if image.dtype == np.uint8 else PEAK
    error = np.square(np.subtract(image, reference, dtype=np.float64)).mean() / peak**2
    return -10 * math.log10(error) if error else math.inf


def ssim(image: Pixels | Pixels8, reference: Pixels | Pixels8) -> float:
    """Compute the structural similarity of Wang et al. 2004, averaged over the three channels.

    It is computed by dm-pix in float64, with a Gaussian window of 11 × 11 pixels (sigma 1.5) that
    lies inside the image, K1 = 0.01 and K2 = 0.03. Scikit-image computes the same with
    `gaussian_weights=True, sigma=1.5, use_sample_covariance=False`.

    Args:
        image: [H, W, 3], 8-bit levels or floats in [-1, 1], with sides of 11 pixels or more.
        reference: an image of the same shape and type.

    Returns:
        A number in [-1, 1]; 1 if both are equal.
    """
    # In float32, rounding changes the result by up to 5e-5 where images are bright and smooth.
    with jax.enable_x64(True), jax.default_device(_host()):
        return float(_ssim(_unit(image), _unit(reference)))


_ssim = jax.jit(dm_pix.ssim)


def _unit(image: Pixels | Pixels8) -> Float[np.ndarray, "h w 3"]:
    """Convert to float64 in [0, 1]."""
    numbers = image.astype(np.float64)
    return numbers / PEAK_8_BIT if image.dtype == np.uint8 else (numbers + 1) / PEAK


def _host() -> Any:
    """Return the CPU, since TPUs have no float64; None if JAX_PLATFORMS leaves it out."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return None

"""Compare an image with a reference: PSNR and SSIM."""

import math
from typing import Any

import dm_pix
import jax
import numpy as np
from jaxtyping import Float

from aura_jax.arrays import AnyArray, check_array, check_is_array
from aura_jax.dtypes import FLOATS, alternatives
from aura_jax.errors import ArrayError

PEAK = 2.0  # floats lie in [-1, 1]
PEAK_8_BIT = 255.0
LEVELS = np.dtype(np.uint8)
WINDOW = 11  # pixels of SSIM's window


def psnr(image: AnyArray, reference: AnyArray) -> float:
    """Compute the peak signal-to-noise ratio in decibels, over all pixels and channels.

    It is 10·log10(peak² / mean squared error) in float64. The peak is 255 for 8-bit levels and 2
    for floats in [-1, 1], which gives the same number.

    Args:
        image: a numpy or jax array of any shape, 8-bit levels or floats in [-1, 1].
        reference: values of the same shape and type.

    Returns:
        Decibels; infinite if both are equal.

    Raises:
        ArrayError: if one is not such an array or empty, or their shapes or types differ.
    """
    _check_pair(image, reference)
    peak = PEAK_8_BIT if image.dtype == LEVELS else PEAK
    error = np.square(np.subtract(image, reference, dtype=np.float64)).mean() / peak**2
    return -10 * math.log10(error) if error else math.inf


def ssim(image: AnyArray, reference: AnyArray) -> float:
    """Compute the structural similarity of Wang et al. 2004, averaged over the three channels.

    It is computed by dm-pix in float64, with a Gaussian window of 11 × 11 pixels (sigma 1.5) that
    lies inside the image, K1 = 0.01 and K2 = 0.03. Scikit-image computes the same with
    `gaussian_weights=True, sigma=1.5, use_sample_covariance=False`.

    Args:
        image: [H, W, 3], 8-bit levels or floats in [-1, 1], with sides of 11 pixels or more.
        reference: an image of the same shape and type.

    Returns:
        A number in [-1, 1]; 1 if both are equal.

    Raises:
        ArrayError: if one is not such an image, or their shapes or types differ.
    """
    _check_pair(image, reference)
    dtypes = (*FLOATS, LEVELS)
    check_array("image", image, 3, axes="height, width", dtypes=dtypes, min_side=WINDOW)
    # In float32, rounding changes the result by up to 5e-5 where images are bright and smooth.
    with jax.enable_x64(True), jax.default_device(_host()):
        return float(_ssim(_unit(image), _unit(reference)))


_ssim = jax.jit(dm_pix.ssim)


def _check_pair(image: AnyArray, reference: AnyArray) -> None:
    """Check that two arrays can be compared: numpy would broadcast and mix levels with floats."""
    for name, x in {"image": image, "reference": reference}.items():
        check_is_array(name, x)
        if x.dtype not in (*FLOATS, LEVELS):
            expected = alternatives((LEVELS, *FLOATS))
            raise ArrayError(f"{name} of dtype {x.dtype}: expected {expected}")
    if image.shape != reference.shape or image.size == 0:
        shapes = f"image of shape {image.shape} and reference of shape {reference.shape}"
        raise ArrayError(f"{shapes}: expected the same shape, with one value or more")
    if (image.dtype == LEVELS) != (reference.dtype == LEVELS):
        raise ArrayError(
            f"image of dtype {image.dtype} and reference of dtype {reference.dtype}: "
            "expected both as 8-bit levels or both as floats in [-1, 1]"
        )


def _unit(image: AnyArray) -> Float[np.ndarray, "h w 3"]:
    """Convert to float64 in [0, 1]."""
    numbers = np.asarray(image, np.float64)
    return numbers / PEAK_8_BIT if image.dtype == LEVELS else (numbers + 1) / PEAK


def _host() -> Any:
    """Return the CPU, since TPUs have no float64; None if JAX_PLATFORMS leaves it out."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return None

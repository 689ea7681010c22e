"""Distances between two images or two latents, in decibels and relative to their norm."""

import dataclasses
import math

import numpy as np
from jaxtyping import Float

from aura_jax.arrays import relative_error
from aura_jax.images.quality import psnr
from aura_jax.images.transforms import Pixels

BORDER = 16  # pixels: two of the published model's latent


@dataclasses.dataclass(frozen=True)
class Distance:
    """The distance of an image from a reference.

    Attributes:
        psnr_db: see `aura_jax.images.psnr`; infinite if they are equal.
        relative_l2: ‖image - reference‖ / ‖reference‖ of values in [-1, 1]: mid-gray is 0.
    """

    psnr_db: float
    relative_l2: float


@dataclasses.dataclass(frozen=True)
class LatentDistance:
    """The distance of a latent from a reference, without a peak value as images have.

    Attributes:
        snr_db: -20·log10(relative_l2), infinite if they are equal. At 0 dB the error is as large
            as the latent itself, at 20 dB a tenth of it.
        relative_l2: ‖latent - reference‖ / ‖reference‖.
    """

    snr_db: float
    relative_l2: float


def image_distance(
    image: Float[np.ndarray, "*shape"], reference: Float[np.ndarray, "*shape"]
) -> Distance:
    """Measure the distance of pixels in [-1, 1], of any shape, from a reference."""
    return Distance(psnr(image, reference), relative_error(image, reference))


def border_and_interior(image: Pixels, reference: Pixels) -> tuple[Distance, Distance]:
    """Measure the distance in the outermost 16 pixels of all four sides, and in the other pixels.

    Args:
        image: [H, W, 3] in [-1, 1], sides over 32 pixels.
        reference: an image of the same shape.
    """
    interior = np.zeros(image.shape[:2], bool)
    interior[BORDER:-BORDER, BORDER:-BORDER] = True
    border, rest = (image_distance(image[part], reference[part]) for part in (~interior, interior))
    return border, rest


def latent_distance(
    latent: Float[np.ndarray, "*shape"], reference: Float[np.ndarray, "*shape"]
) -> LatentDistance:
    """Measure the distance of a latent of any shape from a reference."""
    relative = relative_error(latent, reference)
    return LatentDistance(_decibels(relative**2), relative)


def _decibels(noise: float) -> float:
    """Convert the power of noise, relative to that of the signal, to a ratio in decibels."""
    return -10 * math.log10(noise) if noise else math.inf

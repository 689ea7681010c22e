"""Check the images and latents that are given to a codec, or to `encode` and `decode`."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.core
import numpy as np
from jaxtyping import Array

from aura_jax.arrays import check_array, check_is_array
from aura_jax.config import AuraConfig
from aura_jax.dtypes import FLOATS
from aura_jax.errors import ArrayError
from aura_jax.runtime.placement import Placement

LEVELS = np.dtype(np.uint8)
# Resampling exceeds [-1, 1] slightly; 8-bit levels in a float array exceed it by far.
PIXEL_LIMIT = 2.0


def check_images(
    images: Array | np.ndarray, config: AuraConfig, place: Placement, *, wait: bool
) -> None:
    """Check images [B, H, W, C] for a codec.

    Args:
        images: floats in [-1, 1], or uint8.
        config: the sizes of the model.
        place: where the images will lie.
        wait: whether to check the range of a jax array too, which waits for its values.

    Raises:
        ArrayError: if the layout, shape, dtype or range is wrong, or the rows do not divide over
            the devices.
    """
    side = config.downsampling
    check_array("images", images, config.in_channels, dtypes=(*FLOATS, LEVELS), min_side=side)
    place.check_rows("images", images.shape, side)
    if images.dtype != LEVELS and _has_values_to_check(images, wait):
        check_range(images)


def check_latents(
    latents: Array | np.ndarray, config: AuraConfig, place: Placement, *, wait: bool
) -> None:
    """Check latents [B, h, w, C] for a codec, with arguments as for `check_images`.

    Raises:
        ArrayError: if the layout, shape or dtype is wrong, some values are NaN or infinite, or the
            rows do not divide over the devices.
    """
    check_array("latents", latents, config.z_channels)
    place.check_rows("latents", latents.shape, 1)
    if _has_values_to_check(latents, wait):
        check_finite(latents)


def check_list(name: str, arrays: Any) -> None:
    """Check that something is a list of arrays, or a batch.

    Raises:
        ArrayError: if it is not.
    """
    if not isinstance(arrays, Sequence | np.ndarray | jax.Array):
        raise ArrayError(f"{name} of type {type(arrays).__name__}: expected a list of arrays")
    for each in arrays:
        check_is_array(name, each)


def check_range(images: Array | np.ndarray) -> None:
    """Check that floats are about in [-1, 1], which waits for their values.

    Raises:
        ArrayError: if they are far outside, or some are NaN.
    """
    low, high = float(images.min()), float(images.max())
    if not (low >= -PIXEL_LIMIT and high <= PIXEL_LIMIT):  # so that NaN is caught too
        raise ArrayError(f"images range over [{low:g}, {high:g}]: expected about [-1, 1]")


def check_finite(latents: Array | np.ndarray) -> None:
    """Check that latents have no NaN or infinity, which waits for their values.

    Raises:
        ArrayError: if they have.
    """
    largest = float(abs(latents).max())
    if not largest < float("inf"):
        raise ArrayError("latents have NaN or infinite values, which decode to a black image")


def _has_values_to_check(x: Array | np.ndarray, wait: bool) -> bool:
    return isinstance(x, np.ndarray) or (wait and not isinstance(x, jax.core.Tracer))

"""Convert, crop, scale and pad arrays of images."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from aura_jax.arrays import AnyArray, check_is_array
from aura_jax.errors import ArrayError, ImageError

type Pixels = Float[np.ndarray, "_ _ 3"]  # rows, columns, RGB
type Pixels8 = UInt8[np.ndarray, "_ _ 3"]


def to_float(levels: AnyArray) -> Any:
    """Convert levels 0..255 to float32 in [-1, 1]; numpy gives numpy, jax gives jax."""
    return levels.astype(np.float32) / np.float32(127.5) - np.float32(1)


def to_uint8(images: AnyArray) -> Any:
    """Convert floats in [-1, 1] to levels 0..255, clamped and rounded to the nearest level."""
    levels = (images.astype(np.float32) + np.float32(1)) * np.float32(127.5)
    return levels.round().clip(0, 255).astype(np.uint8)


def crop(pixels: Pixels, size: int, offset: int | None = None) -> Pixels:
    """Cut a square of `size` pixels out of an image.

    Args:
        pixels: [H, W, 3].
        size: side of the square in pixels.
        offset: distance of the square from both the left and the top edge; None centers it.

    Raises:
        ImageError: if the square is empty or reaches beyond the image.
    """
    height, width = pixels.shape[:2]
    top, left = ((height - size) // 2, (width - size) // 2) if offset is None else (offset, offset)
    if size < 1 or min(top, left) < 0 or top + size > height or left + size > width:
        at = "in the middle" if offset is None else f"at {offset},{offset}"
        raise ImageError(f"a crop of {size} x {size} {at} does not fit in {width} x {height}")
    return pixels[top : top + size, left : left + size]


def square(image: Image.Image, size: int) -> Pixels8:
    """Cut the largest centered square and scale it to `size` pixels a side by Lanczos.

    Raises:
        ImageError: if the size is not a whole number above 0.
    """
    if not is_natural(size):
        raise ImageError(f"size {size!r}: expected a number of pixels, 1 or more")
    side = min(image.size)
    left, top = ((length - side) // 2 for length in image.size)
    part = Image.new(image.mode, (side, side))  # `crop` has a limit for the whole process
    part.paste(image, (-left, -top))
    return np.asarray(part.resize((size, size), Image.Resampling.LANCZOS))


def covering(
    image: Image.Image, size: tuple[int, int]
) -> tuple[Pixels8, tuple[float, float, float, float]]:
    """Scale an image by one factor until it covers a size, and cut off what is left over.

    The same is cut off at opposite sides, so a flipped image gives the flipped result.

    Args:
        image: the image.
        size: the height and width in pixels.

    Returns:
        The pixels; and how many pixels of the scaled image were cut off at the top, at the left, at
        the bottom and at the right, which need not be whole numbers.
    """
    height, width = size
    is_wide = image.width * height > width * image.height
    scale = height / image.height if is_wide else width / image.width
    left = (image.width - width / scale) / 2 if is_wide else 0.0
    top = 0.0 if is_wide else (image.height - height / scale) / 2
    # Pillow computes in 32 bits, where multiples of 1/256 are exact at both sides.
    left, top = (round(margin * 256) / 256 for margin in (left, top))
    box = left, top, image.width - left, image.height - top
    pixels = np.asarray(image.resize((width, height), Image.Resampling.LANCZOS, box))
    return pixels, (top * scale, left * scale, top * scale, left * scale)


def square_pixels(pixels: Pixels, size: int) -> Pixels:
    """Apply `square` to an image [H, W, 3] of floats in [-1, 1]."""
    return to_float(square(Image.fromarray(to_uint8(pixels)), size))


def pad_to_multiple(images: AnyArray, multiple: int = 8) -> Any:
    """Repeat the right and bottom edges until both sides are multiples of `multiple`.

    `crop_back` removes the padding from the decoded images.

    Args:
        images: [..., H, W, C], numpy or jax, which the result is too.
        multiple: the model's downsampling.

    Raises:
        ArrayError: if this is not an array of three axes or more.
        ImageError: if a side is shorter than `multiple`, which leaves almost nothing to encode; or
            `multiple` is not a whole number above 0.
    """
    _check_images(images)
    if not is_natural(multiple):
        raise ImageError(f"multiple {multiple!r}: expected a number of pixels, 1 or more")
    height, width = images.shape[-3:-1]
    if min(height, width) < multiple:
        raise ImageError(
            f"an image of {width} x {height}: each side needs {multiple} pixels or more"
        )
    missing = ((0, -height % multiple), (0, -width % multiple), (0, 0))
    widths = ((0, 0),) * (images.ndim - 3) + missing
    return images.__array_namespace__().pad(images, widths, mode="edge")


def crop_back(
    images: AnyArray,
    size: tuple[int, int],
    *,
    horizontal: bool = False,
    vertical: bool = False,
) -> Any:
    """Remove the padding of `pad_to_multiple` from decoded images.

    Args:
        images: [..., H, W, C].
        size: the height and width before the padding.
        horizontal: whether the latents were flipped left to right, so the padding is at the left.
        vertical: whether they were flipped top to bottom, so it is at the top.

    Raises:
        ArrayError: if this is not an array of three axes or more.
        ImageError: if the images are smaller than `size`, or it is not two whole numbers above 0.
    """
    _check_images(images)
    sides = [*size] if isinstance(size, Iterable) else []
    if len(sides) != 2 or not all(map(is_natural, sides)):
        raise ImageError(f"size {size!r}: expected (height, width) in pixels, each 1 or more")
    (rows, columns), (height, width) = images.shape[-3:-1], size
    if rows < height or columns < width:
        raise ImageError(f"images of {columns} x {rows} cannot be cropped to {width} x {height}")
    top, left = (rows - height) * vertical, (columns - width) * horizontal
    return images[..., top : top + height, left : left + width, :]


def _check_images(images: Any) -> None:
    check_is_array("images", images)
    if images.ndim < 3:
        raise ArrayError(f"images of shape {images.shape}: expected [..., height, width, channels]")


def is_natural(number: Any) -> bool:
    """Return whether this is a whole number above 0, of Python or numpy."""
    return isinstance(number, int | np.integer) and not isinstance(number, bool) and int(number) > 0

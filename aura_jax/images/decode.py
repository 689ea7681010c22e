"""Decode image files of every mode, orientation and bit depth to upright RGB."""

from collections.abc import Callable
from functools import partial

import numpy as np
from jaxtyping import Float
from PIL import Image

from aura_jax.images.color import ProfileError, to_srgb
from aura_jax.images.levels import Alpha, Colors, needs_levels, read_levels, set_raw_mode
from aura_jax.images.opening import checked_format, opened, take_apart
from aura_jax.images.options import Decoding
from aura_jax.images.source import Source
from aura_jax.images.tags import orientation

type Levels = Float[np.ndarray, "_ _ 3"]  # RGB in [0, 1]
type Note = Callable[[str], None]

TURNS = {  # EXIF orientation: the operation that undoes it
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIDEWAYS = range(5, 9)  # EXIF orientations whose undoing exchanges height and width
COLOR_MODES = {1: "L", 3: "RGB", 4: "CMYK"}  # by the number of samples


def decode(data: bytes, decoding: Decoding, note: Note) -> Image.Image | Levels:
    """Decode the bytes of an image file to upright RGB: 8-bit, or floats if it has more bits.

    Args:
        data: the bytes.
        decoding: the options.
        note: called with a sentence if the color profile of the file is ignored.

    Raises:
        ImageError: if the format cannot be opened, or the image has too many pixels.
        Exception: of many types, if the file is damaged or Pillow would read it wrongly.
    """
    name = checked_format(data)
    source = take_apart(name, data)
    image = opened(name, source, decoding.max_pixels)
    turn = TURNS.get(_orientation(name, source, image))
    profile = image.info.get("icc_profile") if source.profile is None else source.profile
    if decoding.raw_colors:
        profile = None
    if needs_levels(image, source):
        load = partial(_load, name, source, decoding.max_pixels, turn)
        return _levels(*read_levels(image, source, load), profile, note)
    return _rgb(_turned(image, turn), profile, note)


def upright_size(data: bytes, decoding: Decoding) -> tuple[int, int]:
    """Return the height and width that `decode` gives an image, without decoding its pixels.

    Raises:
        ImageError: as `decode`.
        Exception: of many types, if the file is damaged where its size is stored.
    """
    name = checked_format(data)
    source = take_apart(name, data)
    image = opened(name, source, decoding.max_pixels)
    width, height = image.size
    return (width, height) if _orientation(name, source, image) in SIDEWAYS else (height, width)


def upright_rgb(image: Image.Image) -> Image.Image:
    """Convert a Pillow image to upright 8-bit sRGB, as `decode` does with the bytes of a file.

    Raises:
        ValueError: if its samples have no known range.
        OSError: if its file is damaged.
    """
    image.load()
    exif, xmp = image.info.get("exif"), image.info.get("xmp")
    image = _turned(image, TURNS.get(orientation(exif, xmp)))
    if image.mode == "I":
        raise ValueError("32-bit values, whose range is not known")
    if image.mode.startswith("I;16"):
        image = to_8_bit(np.asarray(image).astype(np.float32) / 65535, "L")
    return _rgb(image, image.info.get("icc_profile"), lambda note: None)


def _turned(image: Image.Image, turn: Image.Transpose | None) -> Image.Image:
    return image if turn is None else image.transpose(turn)


def _load(
    name: str, source: Source, max_pixels: int, turn: Image.Transpose | None, raw: str
) -> Image.Image:
    """Decode a file as if samples had another layout, and turn it upright."""
    image = opened(name, source, max_pixels)
    set_raw_mode(image, raw)
    return _turned(image, turn)


def _orientation(name: str, source: Source, image: Image.Image) -> int:
    """Return the EXIF orientation that is left to undo: libheif turns HEIC images itself."""
    exif, xmp = source.exif or image.info.get("exif"), source.xmp or image.info.get("xmp")
    return 1 if name == "HEIC" else orientation(exif, xmp)


def _rgb(image: Image.Image, profile: bytes | None, note: Note) -> Image.Image:
    if image.mode == "F":
        raise ValueError("floating point values, whose range is not known")
    if image.mode == "La":  # premultiplied, for which Pillow has no other conversion
        image = image.convert("LA")
    if profile is not None:
        image = _converted(_plain(image), profile, note)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return image.convert("RGB")


def _plain(image: Image.Image) -> Image.Image:
    """Convert an image to a mode that a profile can be applied to."""
    if image.has_transparency_data:
        return image if image.mode == "LA" else image.convert("RGBA")
    if image.mode == "1":
        return image.convert("L")
    return image if image.mode in COLOR_MODES.values() else image.convert("RGB")


def _levels(colors: Colors, alpha: Alpha | None, profile: bytes | None, note: Note) -> Levels:
    rgb = _rgb_levels(colors, profile, note)
    return rgb if alpha is None else rgb * alpha + (1 - alpha)  # on white


def _rgb_levels(colors: Colors, profile: bytes | None, note: Note) -> Levels:
    count = colors.shape[-1]
    if profile is not None:  # Pillow applies profiles to 8 bits only
        rounded = to_8_bit(colors[..., 0] if count == 1 else colors, COLOR_MODES[count])
        image = _converted(rounded, profile, note)
        if image is not rounded:
            return np.asarray(image).astype(np.float32) / 255
    if count == 4:  # as Pillow converts CMYK
        return (1 - colors[..., :3]) * (1 - colors[..., 3:])
    return np.repeat(colors, 3, axis=-1) if count == 1 else colors


def _converted(image: Image.Image, profile: bytes, note: Note) -> Image.Image:
    try:
        return to_srgb(image, profile)
    except ProfileError as error:
        note(f"its ICC profile is {error}, and is ignored")
        return image


def to_8_bit(levels: np.ndarray, mode: str = "RGB") -> Image.Image:
    """Round levels in [0, 1] to an 8-bit image."""
    rounded = np.rint(levels * 255).astype(np.uint8)
    return Image.frombytes(mode, rounded.shape[1::-1], rounded.tobytes())

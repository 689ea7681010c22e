"""Read and write image files of every mode, orientation and bit depth."""

import warnings
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from aura_jax.errors import ImageError
from aura_jax.files import replacing
from aura_jax.images.formats import endings
from aura_jax.images.transforms import Pixels, Pixels8

TURNS = {  # EXIF orientation: the operation that undoes it
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
WRITABLE_ENDINGS = (".png", ".jpg", ".jpeg", ".webp")


def decode_image(data: bytes, name: str) -> Pixels:
    """Decode the bytes of an image file upright, as RGB floats in [-1, 1].

    Grayscale (8 or 16 bits) and palettes become RGB, transparent pixels are blended with white,
    16-bit colors are reduced to 8 bits, and only the first frame of an animation is read.

    Returns:
        [H, W, 3] float32: 0 becomes -1 and the highest level, 255 or 65535, becomes 1.

    Raises:
        ImageError: if the file is not an image, broken, or so large that it looks like a
            decompression bomb (over 89 megapixels, Pillow's limit); the message starts with `name`.
    """
    return _decoded(data, name, _levels) * np.float32(2) - np.float32(1)


def decode_8_bit(data: bytes, name: str) -> Image.Image:
    """Decode the bytes of an image file as `decode_image` does, to an 8-bit RGB Pillow image.

    Raises:
        ImageError: as `decode_image`.
    """
    return _decoded(data, name, _rgb_8_bit)


def write_image(path: Path, pixels: Pixels8) -> None:
    """Write an image [H, W, 3], whole or not at all, in the format that the path's ending names.

    Raises:
        ImageError: if the format cannot hold the image, such as a side that is too long.
        AuraError: if the file cannot be written.
    """
    formats = Image.registered_extensions()
    with replacing(path) as temporary:
        try:
            Image.fromarray(pixels).save(temporary, format=formats[path.suffix.lower()])
        except ValueError as error:
            raise ImageError(f"{path}: cannot be written: {error}") from None


def is_image_name(path: Path) -> bool:
    """Return whether a path ends like the files of an image format that can be opened."""
    return path.suffix.lower() in endings()


def _decoded[T](data: bytes, name: str, convert: Callable[[Image.Image], T]) -> T:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(BytesIO(data)) as image:
                return convert(_upright(image))
    except UnidentifiedImageError:
        raise ImageError(f"{name}: not an image in a format that Pillow reads") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise ImageError(f"{name}: refused as a decompression bomb: {error}") from None
    except OSError as error:
        raise ImageError(f"{name}: {error.strerror or error}") from None
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise errors of many types for corrupt data
        raise ImageError(f"{name}: cannot be read as an image: {error}") from None


def _upright(image: Image.Image) -> Image.Image:
    """Undo the orientation that EXIF states.

    `ImageOps.exif_transpose` of Pillow 12 also rewrites the EXIF, and fails if that is damaged.
    """
    turn = TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    return image if turn is None else image.transpose(turn)


def _levels(image: Image.Image) -> Pixels:
    """Convert an image to RGB floats in [0, 1]."""
    if image.mode.startswith("I"):  # 16-bit values, which Pillow may keep in 32 bits
        gray = np.asarray(image)
        if gray.min() < 0 or gray.max() > 65535:
            raise ValueError("32-bit values, whose range is not known")
        return np.repeat((gray.astype(np.float32) / 65535)[..., None], 3, axis=-1)
    return np.asarray(_rgb(image)).astype(np.float32) / 255


def _rgb_8_bit(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        return Image.fromarray(np.rint(_levels(image) * 255).astype(np.uint8))
    return _rgb(image)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("floating point values, whose range is not known")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return image.convert("RGB")

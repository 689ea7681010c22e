"""Read and write image files of every mode, orientation and bit depth."""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from aura_jax.errors import ImageError
from aura_jax.files import replacing
from aura_jax.images.decode import Note, decode, to_8_bit, upright_size
from aura_jax.images.formats import endings
from aura_jax.images.options import Decoding
from aura_jax.images.transforms import Pixels, Pixels8

WRITABLE_ENDINGS = (".png", ".jpg", ".jpeg", ".webp")


def decode_image(
    data: bytes, name: str, decoding: Decoding = Decoding(), note: Note | None = None
) -> Pixels:
    """Decode the bytes of an image file upright, as RGB floats in [-1, 1].

    Colors are converted to sRGB by the file's ICC profile; without one they count as sRGB (gAMA and
    cHRM of a PNG file are ignored). Grayscale and palettes become RGB, transparent pixels are
    blended with white, samples of 9 to 16 bits keep their depth unless a profile converts them, and
    only the first frame of an animation is read.

    Args:
        data: the bytes.
        name: the file's name, for messages.
        decoding: the options.
        note: called with a sentence if the ICC profile cannot be applied and is ignored.

    Returns:
        [H, W, 3] float32: 0 becomes -1 and the highest level becomes 1.

    Raises:
        ImageError: if the file is damaged, is not an image in a supported format, holds samples
            whose range is not known, or has too many pixels; the message starts with `name`.
    """
    with _naming(name):
        picture = decode(data, decoding, _noting(name, note))
        if isinstance(picture, Image.Image):
            picture = np.asarray(picture).astype(np.float32) / 255
        return picture * np.float32(2) - np.float32(1)


def decode_8_bit(
    data: bytes, name: str, decoding: Decoding = Decoding(), note: Note | None = None
) -> Image.Image:
    """Decode the bytes of an image file as `decode_image` does, to an 8-bit RGB Pillow image.

    Deeper samples are rounded to the nearest 8-bit level.

    Raises:
        ImageError: as `decode_image`.
    """
    with _naming(name):
        picture = decode(data, decoding, _noting(name, note))
        return picture if isinstance(picture, Image.Image) else to_8_bit(picture)


def image_size(data: bytes, name: str, decoding: Decoding = Decoding()) -> tuple[int, int]:
    """Read the height and width of the upright image in a file, without decoding its pixels.

    Raises:
        ImageError: as `decode_image`; a file that is damaged elsewhere is not noticed.
    """
    with _naming(name):
        return upright_size(data, decoding)


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


def _noting(name: str, note: Note | None) -> Note:
    """Return a function that passes on a note with the file's name."""
    return lambda line: None if note is None else note(f"{name}: {line}")


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """Turn every error of decoding into one that starts with the file's name."""
    try:
        yield
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from None
    except OSError as error:
        raise ImageError(f"{name}: {error.strerror or error}") from None
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise errors of many types for corrupt data
        if struct.error in (type(error), type(error.__cause__)):  # at the end of the data
            raise ImageError(f"{name}: truncated or corrupt") from None
        raise ImageError(f"{name}: cannot be read as an image: {error}") from None

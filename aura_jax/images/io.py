"""Photographs to model input and back: every mode, orientation and size."""

import warnings
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import dm_pix
import numpy as np
from jaxtyping import Float, UInt8
from PIL import ExifTags, Image, UnidentifiedImageError

from aura_jax.errors import ImageError
from aura_jax.files import replacing

type Pixels = Float[np.ndarray, "_ _ 3"]  # rows, columns, RGB
type Pixels8 = UInt8[np.ndarray, "_ _ 3"]

TURNS = {  # from the EXIF orientation to what undoes it
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
PICTURE_ENDINGS = (".png", ".jpg", ".jpeg", ".webp")


def read_photo(path: str | Path) -> Pixels:
    """Reads a picture upright, as RGB floats in [-1, 1].

    Grayscale (of 8 or 16 bits) and palettes become RGB, transparency is laid on white, colours of
    16 bits are cut to 8, and of an animation the first frame is taken.

    Returns:
        [H, W, 3] float32, level / (levels / 2) - 1.

    Raises:
        ImageError: if the file is missing, not a picture, broken, or so large in pixels that it
            looks like a decompression bomb (over 89 megapixels, Pillow's limit).
    """
    return _decoded(path, str(path), _levels) * np.float32(2) - np.float32(1)


def read_8_bit(data: bytes, name: str) -> Image.Image:
    """As `read_photo`, of a file's bytes, as an RGB image of Pillow's: 8 bits, 0 to 255.

    Raises:
        ImageError: as `read_photo`, with `name` for the path.
    """
    return _decoded(BytesIO(data), name, _rgb_8_bit)


def crop_photo(pixels: Pixels, size: int, offset: int | None = None) -> Pixels:
    """The square of `size` pixels whose top left corner is `offset` pixels right and down.

    Args:
        pixels: [H, W, 3].
        size: side of the square in pixels.
        offset: distance of its corner from the left and the top edge; None centres the square.

    Raises:
        ImageError: if the square is empty or reaches out of the picture.
    """
    height, width = pixels.shape[:2]
    top, left = ((height - size) // 2, (width - size) // 2) if offset is None else (offset, offset)
    if size < 1 or min(top, left) < 0 or top + size > height or left + size > width:
        at = "in the middle" if offset is None else f"at {offset},{offset}"
        raise ImageError(f"a crop of {size} x {size} {at} does not fit in {width} x {height}")
    return pixels[top : top + size, left : left + size]


def square_photo(pixels: Pixels, size: int) -> Pixels:
    """As `square_8_bit`, of a photograph [H, W, 3] in [-1, 1]."""
    levels = square_8_bit(Image.fromarray(to_8_bit(pixels)), size)
    return levels.astype(np.float32) / np.float32(127.5) - np.float32(1)


def square_8_bit(image: Image.Image, size: int) -> Pixels8:
    """The largest centred square, scaled to `size` pixels a side by Lanczos."""
    side = min(image.size)
    left, top = ((length - side) // 2 for length in image.size)
    square = image.crop((left, top, left + side, top + side))
    return np.asarray(square.resize((size, size), Image.Resampling.LANCZOS))


def pad_photo(pixels: Pixels, multiple: int) -> Pixels:
    """Repeats the right and bottom edges until both sides are multiples of `multiple`.

    Raises:
        ImageError: if a side is shorter than `multiple`: there is next to nothing to encode.
    """
    height, width = pixels.shape[:2]
    if min(height, width) < multiple:
        raise ImageError(
            f"a picture of {width} x {height}: each side needs {multiple} pixels or more"
        )
    return np.pad(pixels, ((0, -height % multiple), (0, -width % multiple), (0, 0)), mode="edge")


def to_8_bit(pixels: Float[np.ndarray, "*_ 3"]) -> UInt8[np.ndarray, "*_ 3"]:
    """[-1, 1] to 0..255, clamped and rounded to the nearest level."""
    levels = (pixels.astype(np.float32) + 1) * 127.5
    return np.rint(levels.clip(0, 255)).astype(np.uint8)


def write_photo(path: Path, pixels: Pixels8) -> None:
    """Writes a picture in the format of the path's ending, whole or not at all."""
    endings = Image.registered_extensions()
    with replacing(path) as temporary:
        try:
            Image.fromarray(pixels).save(temporary, format=endings[path.suffix.lower()])
        except ValueError as error:  # such as a side that is too long for the format
            raise ImageError(f"{path}: cannot be written: {error}") from None


def is_picture_name(path: Path) -> bool:
    """Whether a path ends as pictures do, of any format that Pillow knows."""
    return path.suffix.lower() in Image.registered_extensions()


def psnr(a: Pixels8, b: Pixels8) -> float:
    """Peak signal-to-noise ratio of two 8-bit pictures, in decibels; infinite if they are equal."""
    return float(dm_pix.psnr(a / np.float32(255), b / np.float32(255)))


def _decoded[T](source: str | Path | BytesIO, name: str, convert: Callable[[Image.Image], T]) -> T:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(source) as image:
                return convert(_upright(image))
    except UnidentifiedImageError:
        raise ImageError(f"{name}: not a picture in a format that Pillow reads") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise ImageError(f"{name}: refused as a decompression bomb: {error}") from None
    except OSError as error:
        raise ImageError(f"{name}: {error.strerror or error}") from None
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise whatever broken data leads them to
        raise ImageError(f"{name}: cannot be read as a picture: {error}") from None


def _upright(image: Image.Image) -> Image.Image:
    """Turned as EXIF says; Pillow's own function rewrites the EXIF too, and fails if it is odd."""
    turn = TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    return image if turn is None else image.transpose(turn)


def _levels(image: Image.Image) -> Pixels:
    """RGB in [0, 1]."""
    if image.mode.startswith("I"):  # 16 bits, maybe kept in 32
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

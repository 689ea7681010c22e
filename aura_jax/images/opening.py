"""Open image files, each format with its own decoder of Pillow."""

from collections.abc import Callable
from io import BytesIO

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)
from PIL.ImageFile import ImageFile

from aura_jax.errors import ImageError
from aura_jax.images.formats import can_open, image_format
from aura_jax.images.png import png_source
from aura_jax.images.source import Source, avif_source, jpeg_2000_source, jpeg_source
from aura_jax.images.tiff import tiff_source

SOURCES: dict[str, Callable[[bytes], Source]] = {
    "JPEG": jpeg_source,
    "PNG": png_source,
    "TIFF": tiff_source,
    "JPEG 2000": jpeg_2000_source,
    "AVIF": avif_source,
}
# Called without `Image.open`, whose limit on pixels is one for the whole process.
CLASSES: dict[str, Callable[[BytesIO], ImageFile]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "WebP": WebPImagePlugin.WebPImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "PPM": PpmImagePlugin.PpmImageFile,
    "JPEG 2000": Jpeg2KImagePlugin.Jpeg2KImageFile,
    "AVIF": AvifImagePlugin.AvifImageFile,
}


def checked_format(data: bytes) -> str:
    """Return the format of an image file's bytes.

    Raises:
        ImageError: if the file is not an image, or its format cannot be opened.
    """
    if not data:
        raise ImageError("an empty file")
    name = image_format(data)
    if name is None:
        raise ImageError("not an image in a known format")
    if name == "HEIC" and not can_open(name):
        raise ImageError('an HEIC image: to open it, pip install "aura-jax[heif]"')
    if not can_open(name):
        raise ImageError(f"the format {name} is not supported; convert it to PNG or JPEG")
    return name


def take_apart(name: str, data: bytes) -> Source:
    """Take an image file of this format apart into pixels and metadata.

    Raises:
        ValueError: if the file is damaged, or Pillow would read it wrongly.
    """
    return SOURCES.get(name, Source)(data)


def opened(name: str, source: Source, max_pixels: int) -> ImageFile:
    """Open an image file of this format without decoding its pixels.

    Raises:
        ImageError: if it has more pixels than `max_pixels`.
        Exception: of many types, if the file is damaged.
    """
    try:
        image = _class(name)(BytesIO(source.data))
    except Image.DecompressionBombError:  # Pillow's own limit for WebP
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise ImageError(f"over {limit:,} pixels, Pillow's limit for WebP; use PNG") from None
    width, height = image.size
    if width * height > max_pixels:
        raise ImageError(
            f"{width} x {height} pixels, over the limit of {max_pixels:,}; raise it with "
            "--max-pixels"
        )
    if name == "TIFF":  # otherwise Pillow compares the size with its own limit first
        image.im = Image.new(image.mode, image.size).im
    return image


def _class(name: str) -> Callable[[BytesIO], ImageFile]:
    if name == "HEIC":
        from pillow_heif import HeifImageFile  # pyright: ignore[reportMissingImports]

        return HeifImageFile
    return CLASSES[name]

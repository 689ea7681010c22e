"""Orientation is applied exactly once, and damaged metadata never cost pixels."""

import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from aura_jax import find_images
from aura_jax.images.io import decode_8_bit, image_size
from tests.cache_folder import write_tar
from tests.png_files import RGB as RGB_KIND
from tests.png_files import chunk, png_bytes

STORED = {  # orientation: the operation that a camera has applied
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
FORMATS: dict[str, dict[str, Any]] = {
    "png": {"format": "PNG"},
    "webp": {"format": "WEBP", "lossless": True},
    "jpeg": {"format": "JPEG", "quality": 100, "subsampling": 0},
    "mpo": {"format": "MPO", "quality": 100, "subsampling": 0, "save_all": True},
    "avif": {"format": "AVIF", "quality": 100, "subsampling": "4:4:4"},
    **{
        compression: {"format": "TIFF", "compression": compression}
        for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "zstd", "lzma")
    },
    "tiff jpeg": {"format": "TIFF", "compression": "jpeg", "quality": 100},
    "big tiff": {"format": "TIFF", "big_tiff": True},
}
GARBAGE = (b"", b"Exif\0\0", b"\xff" * 40, b"II*\0\x08\0\0\0\xff\xff", b"MM\0*\xff\xff\xff\xff")


def smooth(height: int = 16, width: int = 24) -> np.ndarray:
    """An image without a symmetry, which lossy formats keep."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 10, columns * 8, rows + columns], -1).astype(np.uint8)


def saved(image: Image.Image, **options: Any) -> bytes:
    file = BytesIO()
    image.save(file, **options)
    return file.getvalue()


def turned(orientation: int, name: str) -> bytes:
    turn, exif = STORED[orientation], Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(smooth())
    return saved(image if turn is None else image.transpose(turn), exif=exif, **FORMATS[name])


@pytest.mark.parametrize("name", FORMATS)
def test_orientation_is_applied_once_in_every_format(name: str) -> None:
    for orientation in STORED:
        data = turned(orientation, name)
        pixels = np.asarray(decode_8_bit(data, "x")).astype(int)
        assert pixels.shape == (16, 24, 3), orientation
        assert image_size(data, "x") == (16, 24), orientation
        assert np.abs(pixels - smooth()).max() <= 12, orientation  # of lossy formats


def test_orientation_of_deep_samples() -> None:
    """They are decoded again, in another layout."""
    gray = smooth()[..., 0].astype(np.uint16) * 256
    exif = Image.Exif()
    exif[0x0112] = 6
    sideways = Image.fromarray(np.ascontiguousarray(np.rot90(gray)))
    assert sideways.mode == "I;16"
    pixels = np.asarray(decode_8_bit(saved(sideways, format="PNG", exif=exif), "x")).astype(int)
    assert pixels.shape == (16, 24, 3)
    assert np.abs(pixels[..., 0] - smooth()[..., 0]).max() <= 1


def test_orientation_in_folders_and_tars(tmp_path: Path) -> None:
    data = turned(6, "tiff_lzw")
    (tmp_path / "a.tif").write_bytes(data)
    write_tar(tmp_path / "b.tar", {"b.tif": data})
    for file in find_images([tmp_path]):
        assert file.pixels().shape == (16, 24, 3)


def test_orientation_from_text_and_xmp() -> None:
    """ImageMagick writes EXIF as text; some programs write XMP alone."""
    exif = Image.Exif()
    exif[0x0112] = 3
    block = exif.tobytes()
    text = f"\nexif\n {len(block)}\n{block.hex()}\n".encode()
    xmp = b'<x:xmpmeta tiff:Orientation="3"/>'
    single_quotes = b"<x:xmpmeta tiff:Orientation = '3'/>"
    texts = (
        chunk(b"tEXt", b"Raw profile type exif\0" + text),
        chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text)),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + single_quotes),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(xmp)),
    )
    for each in texts:
        data = png_bytes(smooth()[::-1, ::-1], 8, RGB_KIND, each)
        np.testing.assert_array_equal(decode_8_bit(data, "x"), smooth())
    data = saved(Image.fromarray(smooth()[::-1, ::-1]), format="WEBP", lossless=True, xmp=xmp)
    np.testing.assert_array_equal(decode_8_bit(data, "x"), smooth())


@pytest.mark.parametrize("name", ["png", "webp", "jpeg", "mpo", "avif"])
def test_damaged_exif_costs_no_pixels(name: str) -> None:
    """Warnings are errors in this suite, so that none is printed either."""
    image, options, exif = Image.fromarray(smooth()), FORMATS[name], Image.Exif()
    exif[0x010F], exif[0x011A] = "maker", 72.0
    block = exif.tobytes().removeprefix(b"Exif\0\0")
    whole = np.asarray(decode_8_bit(saved(image, **options), "x"))
    good = saved(image, exif=exif, **options)
    at = good.index(block)
    for i in range(0, len(block), 2):
        damaged = good[: at + i] + b"\xff\xfe" + good[at + i + 2 :]
        np.testing.assert_array_equal(decode_8_bit(damaged, "x"), whole)
    for garbage in GARBAGE if name in ("png", "webp", "jpeg") else ():
        data = saved(image, exif=garbage, **options)
        np.testing.assert_array_equal(decode_8_bit(data, "x"), whole)


def test_damaged_tags_of_a_tiff_cost_no_pixels() -> None:
    exif = Image.Exif()
    exif[0x010F], exif[0x0131] = "maker" * 9, "software" * 9
    good = saved(Image.fromarray(smooth()), format="TIFF", exif=exif)
    for tag in (0x010F, 0x0131):
        at = good.index(tag.to_bytes(2, "little") + b"\2\0")
        for field, bad in ((2, b"\5\0"), (4, b"\xff" * 4), (8, b"\xff" * 4)):
            damaged = good[: at + field] + bad + good[at + field + len(bad) :]
            np.testing.assert_array_equal(decode_8_bit(damaged, "x"), smooth())


def test_texts_of_any_size_in_a_png() -> None:
    """Pillow refuses texts of more than 1 MiB, and keeps this limit for the whole process."""
    limit = PngImagePlugin.MAX_TEXT_CHUNK
    bomb = zlib.compress(bytes(2**26))
    texts = (
        chunk(b"tEXt", b"prompt\0" + bytes(b"x" * 2**21)),
        chunk(b"zTXt", b"prompt\0\0" + bomb),
        chunk(b"zTXt", b"Raw profile type exif\0\0" + bomb),
        chunk(b"iTXt", b"prompt\0\1\0\0\0" + bomb),
        chunk(b"zTXt", b"prompt\0\7nonsense"),
    )
    for text in texts:
        data = png_bytes(smooth(), 8, RGB_KIND, text)
        np.testing.assert_array_equal(decode_8_bit(data, "x"), smooth())
    assert limit == PngImagePlugin.MAX_TEXT_CHUNK


def test_short_segments_of_a_jpeg() -> None:
    whole = saved(Image.fromarray(smooth()), **FORMATS["jpeg"])
    pixels = np.asarray(decode_8_bit(whole, "x"))
    for marker in (*range(0xE0, 0xF0), 0xFE):
        for start in (
            b"JFIF\0",
            b"Adobe",
            b"Exif\0\0",
            b"MPF\0",
            b"ICC_PROFILE\0",
            b"Photoshop 3.0\0",
        ):
            short = bytes((0xFF, marker, 0, 2 + len(start))) + start
            data = whole[:2] + short + whole[2:]
            np.testing.assert_array_equal(decode_8_bit(data, "x"), pixels)


def test_a_chunk_with_a_wrong_checksum_beside_the_pixels() -> None:
    text = bytearray(chunk(b"tEXt", b"a\0b"))
    text[-1] ^= 1
    np.testing.assert_array_equal(
        decode_8_bit(png_bytes(smooth(), 8, RGB_KIND, bytes(text)), "x"), smooth()
    )

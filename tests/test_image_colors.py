"""Colors are converted to sRGB by ICC profiles, and sRGB itself stays bit-identical."""

import zlib
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from aura_jax.images.io import decode_8_bit, decode_image
from aura_jax.images.options import Decoding
from tests.icc_profiles import ADOBE, SRGB, cmyk_profile, gray_profile, rgb_profile
from tests.png_files import RGB as RGB_KIND
from tests.png_files import chunk, png_bytes

RGB = np.random.default_rng(0).integers(0, 256, (9, 14, 3), np.uint8)
FORMATS = ("PNG", "TIFF", "WEBP", "JPEG", "AVIF")
PILLOWS = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def saved(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    lossy = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}, "AVIF": {}}
    file = BytesIO()
    image.save(file, kind, **lossy.get(kind, {}), **options)
    return file.getvalue()


def encoded(linear: np.ndarray) -> np.ndarray:
    """Linear light as levels 0..255 of sRGB, by the definition of sRGB."""
    clipped = linear.clip(0, 1)
    curve = np.where(clipped < 0.0031308, 12.92 * clipped, 1.055 * clipped ** (1 / 2.4) - 0.055)
    return 255 * curve


def from_adobe(levels: np.ndarray) -> np.ndarray:
    return encoded((levels / 255) ** 2.2 @ (np.linalg.inv(SRGB) @ ADOBE).T)


@pytest.mark.parametrize("kind", FORMATS)
def test_profiles_are_applied_in_every_format(kind: str) -> None:
    profile = rgb_profile(ADOBE, 2.2)
    data = saved(Image.fromarray(RGB), kind, icc_profile=profile)
    raw = np.asarray(decode_8_bit(data, "x", Decoding(raw_colors=True)))
    plain = saved(Image.fromarray(RGB), kind)
    np.testing.assert_array_equal(raw, decode_8_bit(plain, "x"))
    converted = np.asarray(decode_8_bit(data, "x")).astype(float)
    assert np.abs(converted - from_adobe(raw)).max() <= 1.5
    assert np.abs(converted - raw).max() > 20
    floats = decode_image(data, "x")
    np.testing.assert_allclose((floats + 1) * 127.5, converted, atol=1e-3)


def test_srgb_stays_bit_identical() -> None:
    """Profiles of sRGB differ by a level or two, from each other and from the definition."""
    for profile in (PILLOWS, rgb_profile(SRGB, 2.2)):
        same = profile is PILLOWS
        data = saved(Image.fromarray(RGB), icc_profile=profile)
        assert (np.asarray(decode_8_bit(data, "x")) == RGB).all() == same
    deep = png_bytes(RGB.astype(int) * 256 + 1, 16, RGB_KIND, icc_chunk(PILLOWS))
    levels = (decode_image(deep, "x") + 1) / 2 * 65535
    np.testing.assert_allclose(levels, RGB.astype(int) * 256 + 1, atol=0.02)


def icc_chunk(profile: bytes) -> bytes:
    return chunk(b"iCCP", b"name\0\0" + zlib.compress(profile))


def test_profiles_of_every_mode() -> None:
    profile, expected = rgb_profile(ADOBE, 2.2), from_adobe(RGB)
    opaque = np.dstack([RGB, np.full((9, 14), 255, np.uint8)])
    files = {
        "RGBA": saved(Image.fromarray(opaque), icc_profile=profile),
        "16 bits": png_bytes(RGB.astype(int) * 257, 16, RGB_KIND, icc_chunk(profile)),
    }
    for name, data in files.items():
        assert np.abs(np.asarray(decode_8_bit(data, "x")) - expected).max() <= 1.5, name
    opaque[..., 3] = 0
    transparent = saved(Image.fromarray(opaque), icc_profile=profile)
    assert np.asarray(decode_8_bit(transparent, "x")).min() == 255
    indexed = Image.fromarray(RGB).quantize(16)
    colors = from_adobe(np.asarray(indexed.convert("RGB")).astype(float))
    data = saved(indexed, icc_profile=profile)
    assert np.abs(np.asarray(decode_8_bit(data, "x")) - colors).max() <= 1.5


def test_gray_profiles() -> None:
    gray = Image.fromarray(RGB[..., 0])
    expected = encoded((RGB[..., :1] / 255) ** 1.0)
    alpha = gray.convert("LA")
    for image in (gray, alpha):
        data = saved(image, icc_profile=gray_profile(1.0))
        assert np.abs(np.asarray(decode_8_bit(data, "x")) - expected).max() <= 1.5
    deep = Image.fromarray(RGB[..., 0].astype(np.uint16) * 257)
    data = saved(deep, icc_profile=gray_profile(1.0))
    assert np.abs(np.asarray(decode_8_bit(data, "x")) - expected).max() <= 1.5
    data = saved(gray, icc_profile=rgb_profile(ADOBE, 1.0))  # some programs keep that of the colors
    assert np.abs(np.asarray(decode_8_bit(data, "x")) - expected).max() <= 1.5


def test_cmyk_profiles() -> None:
    """The profile turns full black into middle gray; the plain conversion does not."""
    lightness = [255, 128, *[0] * 14]
    ink = np.zeros((8, 8, 4), np.uint8)
    ink[4:, :, 3] = 255
    for kind in ("TIFF", "JPEG"):
        image = Image.frombytes("CMYK", (8, 8), ink.tobytes())
        data = saved(image, kind, icc_profile=cmyk_profile(lightness))
        pixels = np.asarray(decode_8_bit(data, "x")).astype(int)
        assert np.abs(pixels[:4] - 255).max() <= 2
        assert np.abs(pixels[4:] - 119).max() <= 3  # L* = 50
        raw = np.asarray(decode_8_bit(data, "x", Decoding(raw_colors=True)))
        assert raw[4:].max() <= 2


@pytest.mark.parametrize("kind", FORMATS)
def test_broken_profiles_are_ignored_with_a_note(kind: str) -> None:
    image = Image.fromarray(RGB)
    whole = decode_8_bit(saved(image, kind), "x")
    broken = {
        b"nonsense": "broken",
        rgb_profile(ADOBE, 2.2)[:200]: "broken",
        gray_profile(1.0): "for GRAY images, not for RGB",
        cmyk_profile([0] * 16): "for CMYK images, not for RGB",
    }
    for profile, reason in broken.items():
        notes: list[str] = []
        data = saved(image, kind, icc_profile=profile)
        np.testing.assert_array_equal(decode_8_bit(data, "x", note=notes.append), whole)
        assert notes == [f"x: its ICC profile is {reason}, and is ignored"]


def test_a_damaged_chunk_of_a_profile_is_ignored_with_a_note() -> None:
    for content in (b"", b"name", b"name\0\0nonsense"):
        notes: list[str] = []
        data = png_bytes(RGB, 8, RGB_KIND, chunk(b"iCCP", content))
        np.testing.assert_array_equal(decode_8_bit(data, "x", note=notes.append), RGB)
        assert notes == ["x: its ICC profile is broken, and is ignored"]


def test_a_gamma_without_a_profile_is_ignored() -> None:
    data = png_bytes(RGB, 8, RGB_KIND, chunk(b"gAMA", (100_000).to_bytes(4)))
    np.testing.assert_array_equal(decode_8_bit(data, "x"), RGB)


def test_threads_decode_as_one_does() -> None:
    profiles = (None, rgb_profile(ADOBE, 2.2), rgb_profile(SRGB, 1.0), PILLOWS)
    files = [saved(Image.fromarray(RGB), icc_profile=profile) for profile in profiles] * 16
    expected = [np.asarray(decode_8_bit(data, "x")) for data in files]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda data: np.asarray(decode_8_bit(data, "x")), files))
    np.testing.assert_array_equal(found, expected)

"""Samples of every depth and kind become the right levels, or are refused with the reason."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from aura_jax import ImageError
from aura_jax.images.io import decode_8_bit, decode_image
from tests.png_files import GRAY, GRAY_ALPHA, PALETTE, RGB, RGB_ALPHA, chunk, png_bytes
from tests.tiff_files import packed, tiff_bytes

RNG = np.random.default_rng(0)
WHITE_IS_ZERO, BLACK_IS_ZERO, COLOR, INDEXED, CMYK, YCBCR, LAB = 0, 1, 2, 3, 5, 6, 8
HALF = 0.51 / 255  # where Pillow blends with white, in 8 bits


def random(bits: int, *channels: int) -> np.ndarray:
    return RNG.integers(0, 2**bits, (7, 9, *channels))


def check(data: bytes, levels: np.ndarray, tolerance: float = 1e-6) -> None:
    """Compare both functions with levels in [0, 1], [H, W] or [H, W, C]."""
    expected = np.broadcast_to(levels.reshape(7, 9, -1), (7, 9, 3))
    np.testing.assert_allclose((decode_image(data, "x") + 1) / 2, expected, atol=tolerance)
    rounded = np.asarray(decode_8_bit(data, "x"))
    np.testing.assert_allclose(rounded, expected * 255, atol=0.501)


def on_white(samples: np.ndarray, top: int) -> np.ndarray:
    levels = samples / top
    return levels[..., :-1] * levels[..., -1:] + 1 - levels[..., -1:]


def tiff_rows(samples: np.ndarray, bits: int, order: str) -> list[bytes]:
    words = f"{order}u2" if bits == 16 else None
    return [row.astype(words).tobytes() for row in samples] if words else packed(samples, bits)


@pytest.mark.parametrize("order", ["<", ">"])
def test_gray_levels_of_tiffs(order: str) -> None:
    for bits in (1, 2, 4, 8, 16) if order == ">" else (1, 2, 4, 8, 12, 16):
        gray = random(bits)
        rows, levels = tiff_rows(gray, bits, order), gray / (2**bits - 1)
        check(tiff_bytes(rows, 9, [bits], BLACK_IS_ZERO, order), levels)
        check(tiff_bytes(rows, 9, [bits], WHITE_IS_ZERO, order), 1 - levels)


@pytest.mark.parametrize("order", ["<", ">"])
def test_colors_of_tiffs(order: str) -> None:
    for bits in (8, 16):
        top, samples = 2**bits - 1, random(bits, 4)
        colors, levels = np.ascontiguousarray(samples[..., :3]), samples / (2**bits - 1)
        rows = tiff_rows(samples, bits, order)
        check(tiff_bytes(tiff_rows(colors, bits, order), 9, [bits] * 3, COLOR, order), colors / top)
        unused = tiff_bytes(rows, 9, [bits] * 4, COLOR, order, t338=[0])
        check(unused, levels[..., :3])
        with_alpha = tiff_bytes(rows, 9, [bits] * 4, COLOR, order, t338=[2])
        check(with_alpha, on_white(samples, top), HALF if bits == 8 else 1e-6)
        ink = tiff_bytes(rows, 9, [bits] * 4, CMYK, order)
        expected = (1 - levels[..., :3]) * (1 - levels[..., 3:])
        check(ink, expected, 1.01 / 255) if bits == 16 else decode_8_bit(ink, "x")
    samples[..., :3] = np.minimum(samples[..., :3], samples[..., 3:])
    levels = samples / 65535
    premultiplied = tiff_bytes(tiff_rows(samples, 16, order), 9, [16] * 4, COLOR, order, t338=[1])
    check(premultiplied, levels[..., :3] + 1 - levels[..., 3:])


def test_palettes_of_tiffs() -> None:
    """Some programs write 8 bits where the palette has 16."""
    for bits in (1, 2, 4, 8):
        palette, indices = RNG.integers(0, 256, (2**bits, 3)), random(bits)
        rows = packed(indices, bits)
        for scale in (257, 1):
            colors = (palette.T * scale).ravel().tolist()
            data = tiff_bytes(rows, 9, [bits], INDEXED, t320=colors)
            check(data, palette[indices] / 255)


def test_lab_is_converted() -> None:
    samples = np.full((7, 9, 3), (128, 0, 0))  # the gray of half the lightness
    check(tiff_bytes(packed(samples, 8), 9, [8] * 3, LAB), np.full((7, 9), 119 / 255), HALF)


def test_kinds_that_cannot_be_read_right_are_refused() -> None:
    deep, wide = np.zeros((7, 9, 3), "<u2"), np.zeros((7, 9), "<u4")
    kinds = {
        "10 bits": (packed(random(10), 10), [10], BLACK_IS_ZERO, {}, "unknown pixel mode"),
        "32 bits": (wide, [32], BLACK_IS_ZERO, {}, "32-bit values, whose range is not known"),
        "signed": (wide, [8], BLACK_IS_ZERO, {"t339": [2]}, "8-bit signed values"),
        "float": (wide, [32], BLACK_IS_ZERO, {"t339": [3]}, "floating point values"),
        "planes": (deep, [16] * 3, COLOR, {"t284": [2]}, "in separate planes"),
        "thumbnail": (deep, [16] * 3, COLOR, {"t254": [1]}, "camera raw"),
        "raw": (deep, [16] * 3, COLOR, {"t50706": [1]}, "camera raw"),
        "subsampled": (
            packed(random(4, 3), 4),
            [8] * 3,
            YCBCR,
            {"t530": [2, 2]},
            "lower resolution",
        ),
    }
    for rows, bits, photometric, more, reason in kinds.values():
        data = tiff_bytes([bytes(row) for row in rows], 9, bits, photometric, **more)
        with pytest.raises(ImageError, match=f"^x: .*{reason}"):
            decode_8_bit(data, "x")


def test_levels_of_pngs() -> None:
    for bits in (1, 2, 4, 8, 16):
        gray = random(bits)
        check(png_bytes(gray, bits, GRAY), gray / (2**bits - 1))
    for bits, tolerance in ((8, HALF), (16, 1e-6)):
        top = 2**bits - 1
        for kind, count in ((GRAY_ALPHA, 2), (RGB_ALPHA, 4)):
            samples = random(bits, count)
            check(png_bytes(samples, bits, kind), on_white(samples, top), tolerance)
        colors = random(bits, 3)
        check(png_bytes(colors, bits, RGB), colors / top)


def test_a_transparent_color_becomes_white() -> None:
    """Only the exact color: its neighbors in 16 bits keep theirs."""
    for bits in (1, 2, 4, 8, 16):
        top, gray = 2**bits - 1, random(bits)
        gray[0, 1] = gray[0, 0] ^ 1
        key = gray[:1, 0].astype(">u2").tobytes()
        expected = np.where(gray == gray[0, 0], 1, gray / top)
        check(png_bytes(gray, bits, GRAY, chunk(b"tRNS", key)), expected)
    for bits in (8, 16):
        top, colors = 2**bits - 1, random(bits, 3)
        colors[0, 1] = colors[0, 0] ^ (0, 0, 1)
        key = colors[0, 0].astype(">u2").tobytes()
        same = (colors == colors[0, 0]).all(-1, keepdims=True)
        expected = np.where(same, 1, colors / top)
        check(png_bytes(colors, bits, RGB, chunk(b"tRNS", key)), expected)
    for bits in (1, 2, 4, 8):
        indices, palette = random(bits), RNG.integers(0, 256, (2**bits, 4), np.uint8)
        colors, alpha = palette[:, :3].tobytes(), palette[:, 3].tobytes()
        chunks = chunk(b"PLTE", colors), chunk(b"tRNS", alpha)
        check(png_bytes(indices, bits, PALETTE, *chunks), on_white(palette[indices], 255), HALF)


def test_netpbm_levels() -> None:
    for top in (1, 100, 255, 4095, 65535):
        gray = RNG.integers(0, top + 1, (7, 9))
        levels = gray.astype(">u2" if top > 255 else "u1").tobytes()
        check(b"P5 9 7 %d\n" % top + levels, gray / top, HALF if top < 255 else 1e-5)


def test_jpeg_2000_of_other_depths_is_refused() -> None:
    file = BytesIO()
    Image.fromarray(random(8, 3).astype(np.uint8)).save(file, "JPEG2000", irreversible=False)
    data = file.getvalue()
    at = data.index(b"\xff\x4f\xff\x51") + 42
    assert decode_8_bit(data, "x").size == (9, 7)
    with pytest.raises(ImageError, match="of an unsupported depth"):
        decode_8_bit(data[:at] + b"\x0b" + data[at + 1 :], "x")

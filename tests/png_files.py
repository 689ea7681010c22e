"""Write small PNG files of any kind, with any chunks."""

import struct
import zlib

import numpy as np

from tests.tiff_files import packed

GRAY, RGB, PALETTE, GRAY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6


def chunk(name: bytes, data: bytes) -> bytes:
    crc = zlib.crc32(name + data)
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", crc)


def png_bytes(levels: np.ndarray, bits: int, kind: int, *chunks: bytes) -> bytes:
    """A PNG file of levels [H, W] or [H, W, C], with more chunks before them."""
    height, width = levels.shape[:2]
    rows = b"".join(b"\0" + row for row in packed(levels, bits))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0))
    end = chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + end

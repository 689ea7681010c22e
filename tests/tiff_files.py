"""Write small TIFF files of any kind, without compression."""

import struct
from collections.abc import Sequence

import numpy as np

LETTERS = {3: "H", 4: "I"}  # SHORT and LONG


def tiff_bytes(
    rows: Sequence[bytes],
    width: int,
    bits: Sequence[int],
    photometric: int,
    order: str = "<",
    **more: Sequence[int],
) -> bytes:
    """A TIFF file of one strip: rows of packed samples, and more tags by t and their number."""
    strip = b"".join(rows)
    tags: dict[int, Sequence[int]] = {
        256: [width],
        257: [len(rows)],
        258: bits,
        259: [1],
        262: [photometric],
        273: [8],
        277: [len(bits)],
        278: [len(rows)],
        279: [len(strip)],
        **{int(name[1:]): values for name, values in more.items()},
    }
    strip += bytes(len(strip) % 2)
    table, beyond, start = b"", b"", 8 + len(strip) + 2 + 12 * len(tags) + 4
    for tag, values in sorted(tags.items()):
        kind = 4 if max(values) > 65535 or tag in (273, 279) else 3
        packed = struct.pack(f"{order}{len(values)}{LETTERS[kind]}", *values)
        if len(packed) > 4:
            place = struct.pack(f"{order}I", start + len(beyond))
            beyond += packed
            packed = place
        table += struct.pack(f"{order}HHI4s", tag, kind, len(values), packed)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8 + len(strip))
    return head + strip + struct.pack(f"{order}H", len(tags)) + table + bytes(4) + beyond


def packed(levels: np.ndarray, bits: int) -> list[bytes]:
    """Rows of samples with this many bits, each row filled to whole bytes."""
    shifts = np.arange(bits)[::-1]
    return [
        np.packbits((row[:, None] >> shifts & 1).ravel().astype(np.uint8)).tobytes()
        for row in levels.reshape(len(levels), -1)
    ]

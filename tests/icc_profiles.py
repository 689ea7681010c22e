"""Make small ICC profiles."""

import struct
from collections.abc import Mapping, Sequence

import numpy as np

# Columns: the XYZ of red, green and blue relative to D50.
SRGB = [[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]]
ADOBE = [[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]]
WHITE = (0.96420, 1, 0.82491)


def rgb_profile(matrix: Sequence[Sequence[float]], gamma: float) -> bytes:
    """A profile of displays: these primaries and this exponent for all three."""
    columns = np.transpose(matrix)
    tags = {f"{name}XYZ": _xyz(column) for name, column in zip("rgb", columns, strict=True)}
    return _profile("RGB ", "XYZ ", {**tags, **{f"{name}TRC": _curve(gamma) for name in "rgb"}})


def gray_profile(gamma: float) -> bytes:
    """A profile of gray levels."""
    return _profile("GRAY", "XYZ ", {"kTRC": _curve(gamma)})


def cmyk_profile(lightness: Sequence[int]) -> bytes:
    """A profile of a printer, by the lightness 0..255 of its 16 corners; black changes fastest."""
    ramp = bytes(range(256))
    matrix = struct.pack(">9i", *np.eye(3, dtype=int).ravel() * 65536)
    corners = b"".join(bytes((level, 128, 128)) for level in lightness)
    table = struct.pack(">4sI4B", b"mft1", 0, 4, 3, 2, 0) + matrix + 4 * ramp + corners + 3 * ramp
    return _profile("CMYK", "Lab ", {"A2B0": table})


def _xyz(values: Sequence[float]) -> bytes:
    return struct.pack(">4sI3i", b"XYZ ", 0, *(round(value * 65536) for value in values))


def _curve(gamma: float) -> bytes:
    return struct.pack(">4sIIHxx", b"curv", 0, 1, round(gamma * 256))


def _profile(space: str, connection: str, tags: Mapping[str, bytes]) -> bytes:
    kind = b"prtr" if space == "CMYK" else b"mntr"
    tags = {**tags, "wtpt": _xyz(WHITE)}
    table, body, start = b"", b"", 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        table += struct.pack(">4sII", name.encode(), start + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = struct.pack(
        ">I4xI4s4s4s12x4s28x3i48x",
        start + len(body),
        0x02400000,
        kind,
        space.encode(),
        connection.encode(),
        b"acsp",
        *(round(value * 65536) for value in WHITE),
    )
    return head + struct.pack(">I", len(tags)) + table + body

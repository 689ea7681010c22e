"""Take TIFF files apart, and refuse those that Pillow reads wrongly."""

import struct
from collections.abc import Mapping

from aura_jax.images.source import Source
from aura_jax.images.tags import INTEGERS, Directory

SUBFILE, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 254, 256, 257, 258, 259, 262
STRIPS, SAMPLES, STRIP_SIZES, PLANAR, COLORS, TILES, TILE_SIZES = 273, 277, 279, 284, 320, 324, 325
FORMAT, XMP, PROFILE, DNG = 339, 700, 34675, 50706
# The tags that determine pixels, with those of strips, tiles, faxes, JPEG and YCbCr.
SINGLE = {WIDTH, HEIGHT, COMPRESSION, PHOTOMETRIC, 266, SAMPLES, 278, PLANAR, 317, 322, 323}
NEEDED = SINGLE | {BITS, STRIPS, STRIP_SIZES, 292, 293, COLORS, TILES, TILE_SIZES, 338, FORMAT, 347}
NEEDED |= {*range(512, 522), *range(529, 533)}
WHITE_IS_ZERO, BLACK_IS_ZERO, YCBCR = 0, 1, 6  # of PHOTOMETRIC
UNCOMPRESSED, SEPARATE, SIGNED, FLOAT = 1, 2, 2, 3  # of COMPRESSION, PLANAR, FORMAT


def tiff_source(data: bytes) -> Source:
    """Take a TIFF file apart.

    The file for Pillow has a directory of the tags that determine pixels alone. Pillow would warn
    about other tags that are damaged, and would turn the image if it found an orientation.

    Raises:
        ValueError: if the file is damaged, or of a kind that Pillow reads wrongly.
    """
    tags = Directory(data)
    bits, (photometric,) = tags.integers(BITS, (1,)), tags.integers(PHOTOMETRIC, (0,))[:1]
    _check_kind(tags, bits)
    _check_whole(tags, bits, photometric)
    changes: dict[int, tuple[int, ...]] = {}
    inverted = photometric == WHITE_IS_ZERO and bits[0] > 8  # up to 8 bits Pillow inverts itself
    if inverted:
        changes[PHOTOMETRIC] = (BLACK_IS_ZERO,)
    colors = tags.integers(COLORS)
    if colors and max(colors) < 256:  # written with 8 bits instead of 16
        changes[COLORS] = tuple(257 * level for level in colors)
    return Source(
        _with_tags(tags, changes),
        exif=data,
        xmp=_optional(tags, XMP),
        profile=_optional(tags, PROFILE),
        top=2 ** bits[0] - 1,
        inverted=inverted,
    )


def _check_kind(tags: Directory, bits: tuple[int, ...]) -> None:
    if tags.big and tags.order == ">":
        raise ValueError("a big-endian BigTIFF file, which Pillow does not read; convert it to PNG")
    formats = tags.integers(FORMAT, (1,))
    if FLOAT in formats:
        raise ValueError("floating point values, whose range is not known; convert them")
    if max(bits) > 16 or SIGNED in formats:
        raise ValueError(
            f"{max(bits)}-bit {'signed ' * (SIGNED in formats)}values, whose range is not known; "
            "convert them to 8 or 16 bits"
        )
    if (
        max(bits) > 8
        and tags.integers(PLANAR, (1,))[0] == SEPARATE
        and tags.integers(SAMPLES, (1,))[0] > 1
    ):
        raise ValueError("colors of more than 8 bits in separate planes; convert it to PNG")
    if DNG in tags.entries or tags.integers(SUBFILE, (0,))[0] & 1:
        raise ValueError("camera raw, or a thumbnail before the image; convert it to TIFF or PNG")


def _check_whole(tags: Directory, bits: tuple[int, ...], photometric: int) -> None:
    """Check that the file holds all samples: Pillow would read the new directory as samples."""
    width, height, samples = (tags.integers(tag, (1,))[0] for tag in (WIDTH, HEIGHT, SAMPLES))
    depth = bits[0] * samples if len(bits) == 1 else sum(bits)
    needed = (width * depth + 7) // 8 * height
    starts = tags.integers(STRIPS, tags.integers(TILES))
    sizes = tags.integers(STRIP_SIZES, tags.integers(TILE_SIZES, (needed,)))
    if tags.integers(COMPRESSION, (1,))[0] == UNCOMPRESSED:
        if photometric == YCBCR and sum(sizes) < needed:
            raise ValueError("uncompressed colors at a lower resolution; convert it to PNG")
        if len(starts) == 1:  # some programs write a wrong size then
            sizes = (needed,)
    if len(starts) != len(sizes) or any(
        start + size > len(tags.data) for start, size in zip(starts, sizes, strict=True)
    ):
        raise ValueError("truncated or corrupt: its samples lie beyond the end of the file")


def _optional(tags: Directory, tag: int) -> bytes | None:
    try:
        return tags.raw(tag) if tag in tags.entries else None
    except ValueError:
        return None


def _with_tags(tags: Directory, changes: Mapping[int, tuple[int, ...]]) -> bytes:
    """Return the file with a new directory at its end: of the tags in NEEDED, some with changes."""
    offset, head = ("Q", 8) if tags.big else ("I", 4)
    end, beyond, table, size = len(tags.data), b"", [], 0
    for tag in sorted(NEEDED & tags.entries.keys()):
        kind, number, stored = tags.entries[tag]
        size += len(tags.raw(tag))  # raises an error if they are missing
        values = changes.get(tag) or (tags.integers(tag)[:1] if tag in SINGLE else None)
        if values is not None:
            number = len(values)
            stored = struct.pack(f"{tags.order}{number}{INTEGERS[kind]}", *values)
        if len(stored) > len(tags.entries[tag].stored):
            beyond, stored = beyond + stored, struct.pack(tags.order + offset, end + len(beyond))
        table.append(tags.entry.pack(tag, kind, number, stored))
    if size > end:
        raise ValueError("truncated or corrupt: its tags are longer than the file")
    beyond += bytes((end + len(beyond)) % 2)  # directories start at even offsets
    start = struct.pack(tags.order + offset, end + len(beyond))
    count = struct.pack(tags.order + ("Q" if tags.big else "H"), len(table))
    rest = memoryview(tags.data)[head + len(start) :]
    return b"".join((tags.data[:head], start, rest, beyond, count, *table, bytes(len(start))))

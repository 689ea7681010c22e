"""Take image files apart into pixels and metadata, so that damaged metadata costs no pixels."""

import re
from collections.abc import Sequence
from typing import NamedTuple

JPEG_METADATA = {*range(0xE0, 0xF0), 0xFE}
JPEG_COLORS, WHOLE = {0xE0, 0xEE}, 12  # JFIF and Adobe's segment tell the color space, if whole
START_OF_SCAN = 0xDA
STANDALONE = {0, 1, *range(0xD0, 0xD9), 0xFF}  # markers without a segment, and fill bytes
# An entry for EXIF among the items of an AVIF file. Pillow 12 fails if that EXIF is damaged; the
# orientation of an AVIF file is elsewhere.
AVIF_EXIF = re.compile(rb"(infe[\2\3]\0\0.(?:..|....)\0\0)Exif", re.DOTALL)
CODESTREAM = b"\xff\x4f\xff\x51"  # of JPEG 2000: the markers SOC and SIZ


class Source(NamedTuple):
    """An image file without its metadata, and the metadata that change its pixels.

    Attributes:
        data: the file for Pillow.
        exif: EXIF metadata, which may be damaged.
        xmp: XMP metadata, which may be damaged.
        profile: the ICC profile, which may be damaged.
        key: the transparent gray level or color, as one or three samples.
        top: the highest level of samples of more than 8 bits.
        inverted: whether samples of more than 8 bits count from white.
    """

    data: bytes
    exif: bytes | None = None
    xmp: bytes | None = None
    profile: bytes | None = None
    key: tuple[int, ...] | None = None
    top: int = 65535
    inverted: bool = False


def jpeg_source(data: bytes) -> Source:
    """Take a JPEG file apart. Everything after a damaged segment is left for Pillow to read."""
    kept, found, start = [data[:2]], [], 2
    while 0 <= (start := data.find(b"\xff", start)) < len(data) - 4:  # skips junk, as Pillow does
        marker, end = data[start + 1], start + 2 + int.from_bytes(data[start + 2 : start + 4])
        if marker in STANDALONE:
            start += 1
            continue
        if marker == START_OF_SCAN or end > len(data):
            break
        if marker in JPEG_METADATA and (marker not in JPEG_COLORS or end - start - 4 < WHOLE):
            found.append(data[start + 4 : end])
        else:
            kept.append(data[start:end])
        start = end
    return Source(
        b"".join((*kept, data[start:] if start > 0 else b"")),
        exif=_joined(found, b"Exif\0\0"),
        xmp=_joined(found, b"http://ns.adobe.com/xap/1.0/\0"),
        profile=_joined(sorted(found), b"ICC_PROFILE\0", numbers=2),
    )


def _joined(segments: Sequence[bytes], start: bytes, numbers: int = 0) -> bytes | None:
    """Join the segments with this start, without it and `numbers` bytes that number them."""
    parts = [part[len(start) + numbers :] for part in segments if part.startswith(start)]
    return b"".join(parts) or None


def avif_source(data: bytes) -> Source:
    """Hide the EXIF metadata of an AVIF file from Pillow."""
    return Source(AVIF_EXIF.sub(rb"\1skip", data, count=4))


def jpeg_2000_source(data: bytes) -> Source:
    """Take a JPEG 2000 file apart.

    Raises:
        ValueError: if its samples do not have 8 bits, or 16 bits of gray; Pillow cuts others off.
    """
    start = data.find(CODESTREAM)
    count = int.from_bytes(data[start + 40 : start + 42])
    depths = {*data[start + 42 : start + 42 + 3 * count : 3]}  # each is one less; 128: signed
    if start < 0 or not (depths == {7} or (depths == {15} and count == 1)):
        raise ValueError("damaged, or of an unsupported depth; convert it to 8 bits")
    box = data.find(b"colr\2", 0, start)
    length = int.from_bytes(data[box - 4 : box])
    return Source(data, profile=None if box < 0 else data[box + 7 : box - 4 + length])

"""Take PNG files apart into pixels and metadata."""

import zlib
from collections.abc import Iterator

from aura_jax.images.source import Source

LIMIT = 2**23  # bytes of decompressed metadata, so that a bomb stays small
PALETTE = 3
EXIF_TEXT, XMP_TEXT = b"Raw profile type exif", b"XML:com.adobe.xmp"


def png_source(data: bytes) -> Source:
    """Take a PNG file apart.

    The file for Pillow lacks texts, since Pillow refuses those of over 1 MiB, the frames of an
    animation, and a transparent color. Pillow would compare that color with samples that it has
    scaled or cut to 8 bits.

    Raises:
        ValueError: if the file ends within its header.
    """
    if len(data) < 33:
        raise ValueError("truncated")
    bits, palette = data[24], data[25] == PALETTE
    kept, found = [data[:8]], {}
    for name, start, end in _chunks(data):
        body = start + 8
        if name in (b"IHDR", b"IDAT", b"IEND") or (palette and name in (b"PLTE", b"tRNS")):
            kept.append(data[start:end])
        elif name in (b"tRNS", b"eXIf", b"iCCP"):
            found[name] = data[body : end - 4]
        elif name in (b"tEXt", b"zTXt", b"iTXt"):
            keyword = data[body : min(body + 80, end)].partition(b"\0")[0]
            if keyword in (EXIF_TEXT, XMP_TEXT):
                found[keyword] = _text(name, data[body + len(keyword) + 1 : end - 4])
    profile = found.get(b"iCCP")
    return Source(
        b"".join(kept),
        exif=found.get(b"eXIf") or _hexadecimal(found.get(EXIF_TEXT, b"")),
        xmp=found.get(XMP_TEXT),
        profile=None if profile is None else _inflated(profile.partition(b"\0")[2][1:]),
        key=_key(found.get(b"tRNS", b""), bits),
    )


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the name, start and end of each chunk; the last may end beyond the file."""
    start = 8
    while start + 8 <= len(data):
        end = start + 12 + int.from_bytes(data[start : start + 4])
        yield data[start + 4 : start + 8], start, end
        start = end


def _text(name: bytes, body: bytes) -> bytes:
    """Return the text after the keyword of a chunk; no text if it is damaged."""
    if name == b"tEXt":
        return body
    if name == b"zTXt":
        return _inflated(body[1:])
    text = body[2:].split(b"\0", 2)[-1]  # after the language and the translated keyword
    return _inflated(text) if body[:1] == b"\1" else text


def _inflated(data: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, LIMIT)
    except zlib.error:
        return b""


def _hexadecimal(text: bytes) -> bytes:
    """Decode EXIF as ImageMagick writes it: after three lines, as hexadecimal digits."""
    try:
        return bytes.fromhex(b"".join(text.split(b"\n")[3:]).decode())
    except ValueError:
        return b""


def _key(values: bytes, bits: int) -> tuple[int, ...] | None:
    """Return the gray level or color of a tRNS chunk, scaled as Pillow scales 2- and 4-bit gray."""
    if len(values) not in (2, 6):
        return None
    stored = (int.from_bytes(values[i : i + 2]) % 2**bits for i in range(0, len(values), 2))
    return tuple(value if bits >= 8 else value * 255 // (2**bits - 1) for value in stored)

"""Parse the headers of a tar's members, and the metadata that may precede them."""

import struct
from typing import NamedTuple

BLOCK = 512  # bytes of a header
# Name, size, checksum, type, the format's name, and the start of a long name.
FIELDS = struct.Struct("100s 24x 12s 12x 8s c 100x 6s 82x 155s 12x")
CHECKSUM = slice(148, 156)
USTAR = b"ustar\0"


class Header(NamedTuple):
    """A member's name, its size in bytes, and its type."""

    name: str
    size: int
    kind: bytes


def parse_header(block: bytes) -> Header:
    """Parse a header of 512 bytes.

    Raises:
        ValueError: if its checksum does not fit, or it has no size.
    """
    name, size, checksum, kind, magic, prefix = FIELDS.unpack(block)
    if not _fits(_number(checksum), block):
        raise ValueError("a wrong checksum")
    prefix = parse_text(prefix) if magic == USTAR else ""
    return Header((f"{prefix}/" if prefix else "") + parse_text(name), _number(size), kind)


def parse_text(field: bytes) -> str:
    """Decode a field, which ends at the first zero; bytes that are not UTF-8 become surrogates."""
    return field.partition(b"\0")[0].decode(errors="surrogateescape")


def parse_records(data: bytes) -> dict[str, str]:
    """Parse metadata in the pax format: records such as "16 path=a/b.jpg" with a line break.

    Raises:
        ValueError: if they are not in this format.
    """
    found, start = {}, 0
    while start < len(data) and data[start]:
        length = int(data[start : data.index(b" ", start)])
        if length < 5 or start + length > len(data):
            raise ValueError("a damaged record of metadata")
        key, _, value = data[start : start + length - 1].partition(b" ")[2].partition(b"=")
        found[key.decode(errors="replace")] = value.decode(errors="surrogateescape")
        start += length
    return found


def _number(field: bytes) -> int:
    """Parse an octal number, or a large one in base 256."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:])
    return int(field.partition(b"\0")[0].strip() or b"0", 8)


def _fits(checksum: int, block: bytes) -> bool:
    """Compare a header's checksum with the sum of its bytes, unsigned or, in old tars, signed."""
    summed = sum(block) - sum(block[CHECKSUM]) + 8 * ord(" ")
    if checksum == summed:
        return True
    rest = block[: CHECKSUM.start] + block[CHECKSUM.stop :]
    return checksum == summed - 256 * sum(byte > 127 for byte in rest)

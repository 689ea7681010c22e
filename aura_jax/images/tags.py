"""Read the directory of tags that TIFF files and EXIF metadata have in common."""

import re
import struct
from typing import NamedTuple

ORIENTATION = 274
INTEGERS = {1: "B", 3: "H", 4: "I", 7: "B", 13: "I", 16: "Q"}  # each a letter of `struct`
SIZES = dict(enumerate((0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8, 8, 8)))  # in bytes
XMP_ORIENTATION = re.compile(rb"tiff:Orientation(?:\s*=\s*[\"']|>)([1-8])")


class Entry(NamedTuple):
    """A tag as it is stored: its type, the number of its values, and these or their offset."""

    kind: int
    number: int
    stored: bytes


class Directory:
    """The first directory of a TIFF file, BigTIFF file or EXIF block, read without its values.

    Args:
        data: the file or block, which may be cut short: entries beyond its end are missing then.

    Attributes:
        order: the byte order, "<" or ">".
        big: whether offsets have 64 bits.
        entries: the entries by tag.

    Raises:
        ValueError: if the header is damaged.
    """

    def __init__(self, data: bytes):
        if data[:4] not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            raise ValueError("no TIFF header")
        self.data, self.order, self.big = data, "<" if data[:1] == b"I" else ">", b"+" in data[:4]
        self.entry = struct.Struct(self.order + ("HHQ8s" if self.big else "HHI4s"))
        (start,) = self._unpack("Q" if self.big else "I", 8 if self.big else 4)
        (count,) = self._unpack("Q" if self.big else "H", start)
        first = start + (8 if self.big else 2)
        count = min(count, (len(data) - first) // self.entry.size)
        table = data[first : first + count * self.entry.size]
        self.entries = {tag: Entry(*rest) for tag, *rest in self.entry.iter_unpack(table)}

    def integers(self, tag: int, default: tuple[int, ...] = ()) -> tuple[int, ...]:
        """Return the values of a tag, one at least.

        Raises:
            ValueError: if they are not whole numbers, or lie beyond the end of the data.
        """
        if tag not in self.entries:
            return default
        letter = INTEGERS.get(self.entries[tag].kind)
        values = self.raw(tag)
        if letter is None or not values:
            raise ValueError(f"tag {tag} does not hold whole numbers")
        return struct.unpack(f"{self.order}{self.entries[tag].number}{letter}", values)

    def raw(self, tag: int) -> bytes:
        """Return the values of a tag as they are stored.

        Raises:
            ValueError: if they lie beyond the end of the data.
        """
        kind, number, stored = self.entries[tag]
        size = number * SIZES.get(kind, 0)
        if size <= len(stored):
            return stored[:size]
        start = int.from_bytes(stored, "little" if self.order == "<" else "big")
        if start + size > len(self.data):
            raise ValueError(f"truncated or corrupt: tag {tag} lies beyond the end of the file")
        return self.data[start : start + size]

    def _unpack(self, letter: str, start: int) -> tuple[int, ...]:
        size = struct.calcsize(self.order + letter)
        if start + size > len(self.data):
            raise ValueError("truncated or corrupt: its tags lie beyond the end of the file")
        return struct.unpack_from(self.order + letter, self.data, start)


def orientation(exif: bytes | None, xmp: bytes | None) -> int:
    """Return the orientation, 1 to 8, in EXIF metadata or, without a valid one there, in XMP.

    It is 1, upright, if neither has one.
    """
    try:
        (value,) = Directory((exif or b"").removeprefix(b"Exif\0\0")).integers(ORIENTATION)
    except ValueError:
        value = 0
    if not 1 <= value <= 8:
        found = XMP_ORIENTATION.search(xmp or b"")
        value = int(found[1]) if found else 1
    return value

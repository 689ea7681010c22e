"""List the members of an uncompressed tar.

`tarfile` takes five times as long for each member, keeps all of them in memory, and reads metadata
of any size at once.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

from aura_jax.errors import ImageError, printable
from aura_jax.images.tar_headers import BLOCK, Header, parse_header, parse_records, parse_text

TAR = ".tar"
EMPTY = bytes(BLOCK)  # marks the end of an archive
METADATA = (b"x", b"X", b"g", b"L", b"K")  # types of headers for the member after them
SPARSE = b"S"
MAX_METADATA = 2**20  # bytes of extended metadata of a member
MAX_PADDING = 2**20  # bytes of zeros after the end of an archive
COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
COMPRESSED_ENDINGS = {
    **dict.fromkeys((".tar.gz", ".tgz"), "gzip"),
    **dict.fromkeys((".tar.bz2", ".tbz", ".tbz2"), "bzip2"),
    **dict.fromkeys((".tar.xz", ".txz"), "xz"),
    **dict.fromkeys((".tar.zst", ".tzst"), "zstd"),
}
ALL_COMPRESSED = tuple(COMPRESSED_ENDINGS)

type Kind = Literal["file", "link", "folder", "special"]
KINDS: dict[bytes, Kind] = {
    **dict.fromkeys((b"0", b"\0", b"7"), "file"),
    **dict.fromkeys((b"1", b"2"), "link"),
    **dict.fromkeys((b"3", b"4", b"6"), "special"),
    b"5": "folder",
}


class Member(NamedTuple):
    """A member of a tar: its name, its kind, and where its bytes are."""

    name: str
    kind: Kind
    offset: int
    size: int


def is_tar(path: Path) -> bool:
    """Return whether a path ends in .tar."""
    return path.suffix.lower() == TAR


def check_uncompressed(name: str) -> None:
    """Raise an error if a file's name or path ends like a compressed tar.

    Raises:
        ImageError: if it does; the message names the program that unpacks it.
    """
    lower = name.lower()
    if lower.endswith(ALL_COMPRESSED):
        raise _compressed(name, next(v for k, v in COMPRESSED_ENDINGS.items() if lower.endswith(k)))


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a tar.

    Raises:
        ImageError: if it is not a regular file (pipes and devices are not opened), is compressed,
            or cannot be read.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ImageError(f"{path}: not a regular file; pack the tar as a file")
        with path.open("rb") as file:
            head = file.read(8)
            for magic, program in COMPRESSED.items():
                if head.startswith(magic):
                    raise _compressed(path, program)
            yield file
    except OSError as error:
        raise ImageError(f"{path}: not a tar that can be read ({error.strerror})") from None


def members(path: Path, file: BinaryIO) -> Iterator[Member]:
    """Yield the members of a tar in order; between them, `file` may be read anywhere.

    Args:
        path: the tar, for messages.
        file: the tar, as `opened` yields it.

    Raises:
        ImageError: if the tar is truncated or corrupt, data follows its end, or a member is sparse.
    """
    tar = _Tar(path, file)
    while (member := tar.next()) is not None:
        yield member


class _Tar:
    """A tar, read from its start to its end."""

    def __init__(self, path: Path, file: BinaryIO):
        self._path, self._file, self._offset = path, file, 0
        self._length = os.fstat(file.fileno()).st_size
        self._common: dict[str, str] = {}  # metadata of all members after it

    def next(self) -> Member | None:
        """Read the next member, or check the end of the archive and return None."""
        own: dict[str, str] = {}  # metadata of this member
        while header := self._header():
            name, size, kind = header
            try:
                if kind not in METADATA:
                    return self._member(name, size, kind, {**self._common, **own})
                data = self._metadata(size)
                if kind == b"g":
                    self._common |= parse_records(data)
                elif kind in b"xX":
                    own |= parse_records(data)
                elif kind == b"L":
                    own["path"] = parse_text(data)
            except ImageError:
                raise
            except ValueError as error:
                raise self._corrupt(str(error)) from None
        return None

    def _header(self) -> Header | None:
        """Read the next header, or check the end of the archive and return None."""
        self._file.seek(self._offset)  # cheap within the file's buffer
        block = self._file.read(BLOCK)
        if block == EMPTY:
            self._check_end()
            return None
        if len(block) < BLOCK:
            raise self._corrupt("no end-of-archive marker")
        try:
            header = parse_header(block)
        except ValueError:
            if not self._offset:
                raise ImageError(f"{self._path}: not a tar that can be read") from None
            raise self._corrupt("no end-of-archive marker") from None
        self._offset += BLOCK
        return header

    def _metadata(self, size: int) -> bytes:
        if size > MAX_METADATA:
            raise ValueError(f"{size:,} bytes of metadata")
        data = self._file.read(size)
        self._offset += _padded(size)
        return data

    def _member(self, name: str, size: int, kind: bytes, metadata: dict[str, str]) -> Member:
        if metadata:
            name, size = metadata.get("path", name), int(metadata.get("size", size))
        if kind == SPARSE or any(key.startswith("GNU.sparse.") for key in metadata):
            name = printable(metadata.get("GNU.sparse.name", name))
            raise ImageError(
                f"{self._path}:{name}: a sparse member; pack the tar again without --sparse"
            )
        start, known = self._offset, KINDS.get(kind, "special")
        if known == "file" or kind not in KINDS:  # others have no data, whatever their size is
            if not 0 <= size <= self._length - start:
                raise ValueError(f"{printable(name)} is longer than the file")
            self._offset += _padded(size)
        if known == "file" and name.endswith("/"):  # a folder, as the oldest tars have it
            known = "folder"
        return Member(name, known, start, size)

    def _check_end(self) -> None:
        """Check that only a limited padding of zeros follows the end-of-archive marker."""
        rest = self._length - self._offset
        if rest > MAX_PADDING or self._file.read().count(0) != rest - BLOCK:
            raise ImageError(
                f"{self._path}: data follows the end of the archive at byte {self._offset}; if "
                "several tars were joined, give each by itself, or join them with tar --concatenate"
            )

    def _corrupt(self, reason: str) -> ImageError:
        return ImageError(
            f"{self._path}: truncated or corrupt: {reason} at byte {self._offset}; copy it again"
        )


def _compressed(path: Path | str, program: str) -> ImageError:
    return ImageError(
        f"{path}: compressed: unpack it with {program} ({program} -d), "
        "since only an uncompressed tar allows reading single images"
    )


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK

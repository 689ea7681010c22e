"""Group the members of a tar by key, as WebDataset does."""

from collections import Counter
from collections.abc import Iterator
from functools import partial
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from aura_jax.errors import ImageError, printable
from aura_jax.images.folders import SPECIAL
from aura_jax.images.formats import HEAD, endings
from aura_jax.images.left_out import HIDDEN, is_hidden, is_image, kind_of
from aura_jax.images.tars import Member, members, opened

type Members = list[Member]


def by_key(path: Path, left_out: Counter[str]) -> Iterator[tuple[str, Members, Members]]:
    """Yield each run of members of one key: the key, its images, and its other files.

    The key is the path up to the first dot in the file's name, and the rest is the ending. If a key
    has images with a simple ending ("0.jpg"), those with a longer one ("0.mask.png") are not taken
    as images.

    Args:
        path: the tar.
        left_out: receives the number of members that are hidden, links or special.

    Raises:
        ImageError: if the tar cannot be read, or an image in it is a link.
    """
    with opened(path) as tar:
        visible = visible_members(path, tar, left_out)
        for key, run in groupby(visible, lambda member: key_and_ending(member.name)[0]):
            files = [*run]
            images = _images(files, tar)
            yield key, images, [file for file in files if file not in images]


def visible_members(path: Path, tar: BinaryIO, left_out: Counter[str]) -> Iterator[Member]:
    """Yield the visible files of a tar, and count the hidden ones, links and special files.

    Raises:
        ImageError: if the tar cannot be read, or an image in it is a link.
    """
    for member in members(path, tar):
        parts = member.name.split("/")
        if any(is_hidden(part) and part not in (".", "..") for part in parts):
            left_out[HIDDEN] += member.kind != "folder"
        elif member.kind == "file":
            yield member
        elif member.kind == "link" and is_image(parts[-1], bytes):
            raise ImageError(f"{path}:{printable(member.name)}: a link; pack the image file itself")
        elif member.kind != "folder":
            left_out["links" if member.kind == "link" else SPECIAL] += 1


def key_and_ending(name: str) -> tuple[str, str]:
    """Split a member's name at the first dot of its last part; the ending is in lower case."""
    if "//" in name or "./" in name:
        name = PurePosixPath(name).as_posix()
    folder, slash, last = name.rpartition("/")
    stem, _, ending = last.partition(".")
    return folder + slash + stem, ending.lower()


def kind_in_tar(member: Member) -> str:
    """Name the kind of a file that is not taken as an image."""
    kind = kind_of(_last(member))
    return f"{kind} beside an image" if kind in endings() else kind


def _images(files: Members, tar: BinaryIO) -> Members:
    plain = [file for file in files if f".{key_and_ending(file.name)[1]}" in endings()]
    return plain or [file for file in files if is_image(_last(file), partial(_head, file, tar))]


def _head(member: Member, tar: BinaryIO) -> bytes:
    tar.seek(member.offset)
    return tar.read(min(HEAD, member.size))


def _last(member: Member) -> str:
    return member.name.rpartition("/")[2]

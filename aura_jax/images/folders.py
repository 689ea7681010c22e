"""List the visible files of a folder, at any depth."""

import errno
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aura_jax.errors import ImageError, printable
from aura_jax.images.left_out import HIDDEN, is_hidden

SPECIAL = "pipes, devices or sockets"

type Entries = Iterator["os.DirEntry[str]"]
type Identity = tuple[int, int]  # device and inode


def visible_files(folder: Path, left_out: Counter[str]) -> Entries:
    """Yield the files of a folder and below it, sorted as their paths are, part by part.

    A link to a folder is followed as if it were that folder, so that a linked class of images does
    not vanish; but only once, and not into a folder that it lies in. This prevents loops, and links
    that multiply. Links that lead nowhere are yielded too, so that reading them raises an error.

    Args:
        folder: the folder.
        left_out: receives the number of hidden entries, of links that are not followed, and of
            pipes, devices and sockets, which are never opened.

    Raises:
        ImageError: if folders are nested so deeply that the system cannot open them.
        OSError: if a folder cannot be read; its files must not be missing silently.
    """
    followed: set[Identity] = set()
    here = _identity(folder.stat())
    inside, stack = {here}, [(here, _entries(folder))]
    while stack:
        here, entries = stack[-1]
        entry = next(entries, None)
        if entry is None:
            stack.pop()
            inside.remove(here)
        elif is_hidden(entry.name):
            left_out[HIDDEN] += 1
        elif _is_folder(entry):
            with _naming_long_paths(entry.path):
                below = _identity(entry.stat())
            link = _identity(entry.stat(follow_symlinks=False)) if entry.is_symlink() else None
            if below in inside or link in followed:
                left_out["links to folders that were listed already"] += 1
                continue
            if link is not None:
                followed.add(link)
            inside.add(below)
            stack.append((below, _entries(entry.path)))
        elif _may_be_read(entry):
            yield entry
        else:
            left_out[SPECIAL] += 1


def _entries(folder: str | Path) -> Entries:
    with _naming_long_paths(folder), os.scandir(folder) as entries:
        return iter(sorted(entries, key=lambda entry: entry.name))


@contextmanager
def _naming_long_paths(folder: str | Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        shown = printable(str(folder), longest=80)
        raise ImageError(f"{shown}: the path is too long to open; move the folder up") from None


def _identity(status: os.stat_result) -> Identity:
    return status.st_dev, status.st_ino


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that cannot be followed, such as one to itself
        return False


def _may_be_read(entry: "os.DirEntry[str]") -> bool:
    """Return whether an entry is a file, a link to one, or a link that leads nowhere."""
    try:
        return entry.is_file() or (entry.is_symlink() and not Path(entry.path).exists())
    except OSError:
        return True

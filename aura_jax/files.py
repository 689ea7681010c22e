"""Check output paths before the work, and write files whole or not at all."""

import hashlib
import os
import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from aura_jax.errors import AuraError

DIGITS = 8  # at the end of a temporary file's name; editors keep files of other names, .NAME.swp
LONGEST_NAME = 255  # bytes of a file's name, on most file systems


def check_free(path: Path, *, overwrite: bool) -> None:
    """Raise an error if an output file cannot be written, before any work is done for it.

    Raises:
        AuraError: if the path is a folder, lies in a missing or read-only one, is a dangling link,
            has a name that the file system cannot hold, or exists and `overwrite` is false.
    """
    _check_name(path)
    _check_kind(path)
    if not path.absolute().parent.is_dir():
        raise AuraError(f"{path}: the folder {path.absolute().parent} does not exist")
    if path.exists() and not overwrite:
        raise AuraError(f"{path}: exists already; give another name or --overwrite")
    _check_writable(path, path)


def check_folder(path: Path) -> None:
    """Raise an error if an output folder cannot be made or written; its parents may be missing.

    Raises:
        AuraError: if the path or one above it is a file, or the nearest folder is read-only.
    """
    _check_name(path)
    existing = next(place for place in (path, *path.absolute().parents) if place.exists())
    if not existing.is_dir():
        raise AuraError(f"{existing}: is a file; give a folder")
    _check_writable(existing / path.absolute().name, path)


def check_own(path: Path, marker: Path, noun: str) -> None:
    """Raise an error if an output folder holds files, but not the file that marks it as ours.

    Args:
        path: the folder, which exists.
        marker: a file that every folder of this kind has.
        noun: the content of such a folder, for the message, such as "training run".

    Raises:
        AuraError: if there are visible files and no `marker`.
    """
    if marker.exists():
        return
    if any(not entry.name.startswith(".") for entry in path.iterdir()):
        raise AuraError(f"{path}: holds files, but no {noun}; give an empty folder")


def check_outside(path: Path, sources: Iterable[Path]) -> None:
    """Raise an error if an output file or folder lies in a folder of input images.

    Images that are written there would become inputs of the next run.

    Raises:
        AuraError: with the folder that it lies in.
    """
    for source in sources:
        if source.is_dir() and path.resolve().is_relative_to(source.resolve()):
            raise AuraError(
                f"{path}: lies in {source}, a folder of input images; give a place outside"
            )


def check_apart(places: Sequence[Path], error: type[AuraError]) -> None:
    """Raise an error if input files and folders overlap, so that an image would count twice.

    Raises:
        AuraError: of the type `error`, if a place is given twice or lies within another one.
    """
    resolved = [place.resolve() for place in places]
    for place, target in zip(places, resolved, strict=True):
        if resolved.count(target) > 1 or {*resolved} & {*target.parents}:
            raise error(f"{place}: given twice, or lies within another place that is given")


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, and rename it to `path` when the block succeeds.

    If the block raises, the temporary file is removed and `path` stays as it was. A new file has
    the permissions that the process's umask gives; a replaced one keeps its own.

    Raises:
        AuraError: if the file cannot be written, with the system's reason; or if the path is a
            folder, a pipe or a device, which a new file would replace.
    """
    path = Path(path)
    _check_name(path)
    _check_kind(path)
    temporary = _beside(path)
    try:
        _create(temporary)
        mode = temporary.stat().st_mode
        yield temporary
        kept = path.stat().st_mode if path.is_file() else mode
        temporary.chmod(kept & 0o7777)  # safetensors puts a file of mode 0600 in its place
        _sync(temporary)
        temporary.replace(path)
    except (OSError, SafetensorError) as error:  # safetensors raises its own error for a full disk
        reason = getattr(error, "strerror", None) or error
        raise AuraError(f"{path}: cannot be written ({reason})") from None
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def locked(path: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold a lock of a file in the block; the kernel frees it if the process is killed.

    Args:
        path: the file, which is made if it is missing.
        shared: whether others may hold it at the same time, if they share it too.

    Raises:
        BlockingIOError: if another process holds it.
        AuraError: on Windows, which has no such locks.
    """
    try:
        import fcntl  # here, as Windows has none
    except ModuleNotFoundError:
        raise AuraError(f"{path.parent}: can only be written on Linux or macOS") from None
    with path.open("w") as file:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        yield


def remove_leftovers(paths: Iterable[Path]) -> None:
    """Remove the temporary files of `replacing` that killed processes left beside files."""
    prefixes = {path.parent / _prefix(path) for path in paths}
    for folder in {prefix.parent for prefix in prefixes}:
        for found in folder.glob(f".*.{'[0-9a-f]' * DIGITS}"):
            if found.with_name(found.name[:-DIGITS]) in prefixes:
                found.unlink(missing_ok=True)


def _check_name(path: Path) -> None:
    """Check that the file system can hold a path, and that it is not a link to nowhere."""
    if "\0" in str(path):
        raise AuraError(f"{str(path)!r}: no file can have a name with a null byte")
    try:
        with suppress(FileNotFoundError, NotADirectoryError):
            path.lstat()
    except OSError as error:
        raise AuraError(f"{path}: cannot be written ({error.strerror})") from None
    if path.is_symlink() and not path.exists():
        raise AuraError(f"{path}: is a link to a file that does not exist; remove it first")


def _check_kind(path: Path) -> None:
    """Check that a file can take the place of what is there."""
    if path.is_dir():
        raise AuraError(f"{path}: is a folder; give a file name")
    if path.exists() and not path.is_file():
        raise AuraError(f"{path}: is not a regular file, so it cannot be replaced")


def _check_writable(place: Path, path: Path) -> None:
    """Create a file beside `place` and remove it; `path` is the output, for the message.

    Permission bits do not reveal a read-only file system.
    """
    temporary = _beside(place)
    try:
        _create(temporary)
        temporary.unlink()
    except OSError as error:
        raise AuraError(f"{path}: cannot be written ({error.strerror})") from None


def _beside(path: Path) -> Path:
    absolute = path.absolute()
    return absolute.parent / f"{_prefix(absolute)}{secrets.token_hex(DIGITS // 2)}"


def _prefix(path: Path) -> str:
    """Return the start of the names of a file's temporary files, short for a long name too."""
    name = os.fsencode(path.name)
    long = len(name) > LONGEST_NAME // 2
    return f".{hashlib.blake2b(name, digest_size=8).hexdigest() if long else path.name}."


def _create(path: Path) -> None:
    # The kernel applies the umask to 0666. Reading the umask ourselves would briefly change it.
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

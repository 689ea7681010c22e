"""Writing a file whole or not at all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from aura_jax.errors import AuraError


def check_free(path: Path, *, overwrite: bool) -> None:
    """Refuses an output path that is taken, before any work is done for it.

    Raises:
        AuraError: if the path is a folder, lies in a missing one, or exists without `overwrite`.
    """
    if path.is_dir():
        raise AuraError(f"{path}: is a folder, give a file name")
    if not path.absolute().parent.is_dir():
        raise AuraError(f"{path}: the folder {path.absolute().parent} does not exist")
    if path.exists() and not path.is_file():
        raise AuraError(f"{path}: is not a regular file, which could be replaced")
    if path.exists() and not overwrite:
        raise AuraError(f"{path}: exists already; give another name or --overwrite")


def visible_files(folder: Path) -> list[Path]:
    """The files in a folder and below it, sorted, without hidden ones and what hidden folders hold.

    Linked folders are followed, but no folder is visited twice. Links that lead nowhere are among
    the files, so that whoever reads them meets the error.

    Raises:
        OSError: if a folder cannot be read: its files would be missing without a word.
    """
    found, seen = [], {folder.resolve()}
    for parent, folders, names in folder.walk(on_error=_give_up, follow_symlinks=True):
        places = {name: (parent / name).resolve() for name in sorted(folders) if name[0] != "."}
        folders.clear()
        for name, place in places.items():
            if place not in seen:
                seen.add(place)
                folders.append(name)
        found += [parent / name for name in names if name[0] != "."]
    return sorted(path for path in found if path.is_file() or path.is_symlink())


def check_folder(path: Path) -> None:
    """Refuses a path that is no folder and cannot become one; folders above it may be missing.

    Raises:
        AuraError: if the path or one above it is a file.
    """
    existing = next(place for place in (path, *path.absolute().parents) if place.exists())
    if not existing.is_dir():
        raise AuraError(f"{existing}: is a file, give a folder")


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`, which takes its name once the block has ended.

    If the block raises, the temporary file is removed and `path` stays as it was.

    Raises:
        AuraError: if the file cannot be written, with the system's reason.
    """
    path = Path(path)
    try:
        handle, name = tempfile.mkstemp(dir=path.absolute().parent, prefix=f".{path.name}.")
    except OSError as error:
        raise AuraError(f"{path}: cannot be written ({error.strerror})") from None
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())  # mkstemp makes files that only the owner reads
        _sync(temporary)
        temporary.replace(path)
    except (OSError, SafetensorError) as error:  # safetensors has its own for a full disk
        reason = getattr(error, "strerror", None) or error
        raise AuraError(f"{path}: cannot be written ({reason})") from None
    finally:
        temporary.unlink(missing_ok=True)


def _give_up(error: OSError) -> None:
    raise error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

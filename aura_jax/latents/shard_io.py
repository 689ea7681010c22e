"""Read and write shards: files of many records, as ArrayRecord or WebDataset tars."""

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from aura_jax.errors import CacheError
from aura_jax.extras import needs
from aura_jax.images.readers import in_tar
from aura_jax.images.tars import members, opened
from aura_jax.latents.choices import Format
from aura_jax.latents.serialize import to_bytes

WRITER_OPTIONS = "group_size:1,uncompressed"  # for reading single records; latents hardly compress


@runtime_checkable
class Records(Protocol):
    """The records of a file, indexed by number."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> bytes: ...


type Write = Callable[[np.ndarray, dict[str, Any]], None]


@contextmanager
def writing(path: Path, format: Format) -> Iterator[Write]:  # noqa: A002  the option's own name
    """Yield a function that appends a quantized latent and its key and labels to a new file.

    Equal samples give files that are equal byte for byte.

    Raises:
        OSError: if the file cannot be written.
    """
    opened = _array_record if format == "arrayrecord" else _tar
    with opened(path) as write:
        yield write


def records(path: Path, format: Format) -> Records:  # noqa: A002  the option's own name
    """Open a file's records, each of which is read when it is indexed.

    Raises:
        AuraError: if the file cannot be opened, or ArrayRecord is not installed.
    """
    with needs("cache"):  # here: tars work without ArrayRecord, which Windows lacks
        opened: Any = _TarRecords if format == "webdataset" else _array_record_source()
    try:
        return opened(str(path))
    except Exception as error:  # ArrayRecord raises errors of many types
        raise CacheError(f"{path}: cannot be opened, it may be truncated ({error})") from None


def checksum(*paths: Path) -> str:
    """Compute the sha256 of a file, or of several one after another, in hexadecimal."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            hashlib.file_digest(file, lambda: digest)
    return digest.hexdigest()


class _TarRecords:
    """The latents in a tar, as records."""

    def __init__(self, path: str):
        place = Path(path)
        with opened(place) as tar:
            found = members(place, tar)
            self._members = [in_tar(place, each) for each in found if _is_latent(each.name)]

    def __len__(self) -> int:
        return len(self._members)

    def __getitem__(self, index: int, /) -> bytes:
        return self._members[index].read()


def _array_record_source() -> Any:
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    return ArrayRecordDataSource


@contextmanager
def _array_record(path: Path) -> Iterator[Write]:
    with needs("cache"):
        from array_record.python.array_record_module import ArrayRecordWriter
    with _as_os_error():
        writer = ArrayRecordWriter(str(path), WRITER_OPTIONS)

    def write(values: np.ndarray, about: dict[str, Any]) -> None:
        with _as_os_error():
            writer.write(to_bytes(values, about))

    try:
        yield write
    finally:
        with _as_os_error():
            writer.close()


@contextmanager
def _as_os_error() -> Iterator[None]:
    """Turn ArrayRecord's errors, which have many types, into OSError, such as for a full disk."""
    try:
        yield
    except Exception as error:
        raise OSError(str(error)) from None


@contextmanager
def _tar(path: Path) -> Iterator[Write]:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:

        def write(values: np.ndarray, about: dict[str, Any]) -> None:
            member = _escaped(about["key"])
            _add(tar, f"{member}.safetensors", to_bytes(values, about))
            _add(tar, f"{member}.json", json.dumps(about).encode())

        yield write


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)  # its owner and time are zero, so files can be compared
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def _escaped(key: str) -> str:
    """Escape the characters of a key that the name of a tar's member cannot have.

    WebDataset would end its key at the first dot in the last part. With a slash at the start or a
    part "..", a program could unpack the member to a place outside its folder.
    """
    folder, slash, name = key.rpartition("/")
    parts = ["%2E%2E" if part == ".." else part for part in folder.split("/")]
    path = "/".join(parts) + slash + name.replace("%", "%25").replace(".", "%2E")
    return f"%2F{path[1:]}" if path.startswith("/") else path


def _is_latent(name: str) -> bool:
    return name.endswith(".safetensors")

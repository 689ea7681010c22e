"""Open a checkpoint file: its metadata, and its named tensors, which are read on request."""

import dataclasses
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from aura_jax.dtypes import BFLOAT16, FLOAT16, FLOAT32
from aura_jax.errors import CheckpointError

# The names in the safetensors format of the dtypes that parameters and latents can have.
FLOAT_TYPES = {"BF16": BFLOAT16, "F16": FLOAT16, "F32": FLOAT32}
ZIP_START, PICKLE_START = b"PK\x03\x04", b"\x80"  # torch ≥ 1.6 zips its pickles


@dataclasses.dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file.

    Attributes:
        shape: its shape.
        dtype: the file format's name of its dtype, such as BF16.
        read: reads its values.
    """

    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], np.ndarray]


@dataclasses.dataclass(frozen=True)
class StoredCheckpoint:
    """An opened checkpoint file.

    Attributes:
        source: the file's name, for messages.
        tensors: its tensors by name.
        metadata: its metadata, such as an autoencoder's config.
    """

    source: str
    tensors: Mapping[str, StoredTensor]
    metadata: Mapping[str, str]


def open_safetensors(
    path: str | Path, *, converter: str = "convert --allow-pickle"
) -> StoredCheckpoint:
    """Open a safetensors file, with any file name extension, and read its header.

    Args:
        path: the file.
        converter: the module of this repository that converts a pickle of the same content, with
            its options; the error about a pickle names it.

    Raises:
        CheckpointError: if the file cannot be read, is a pickle, or has an invalid header.
    """
    path = Path(path)
    if not path.exists():
        raise CheckpointError(f"{path}: no such file")
    if not path.is_file():
        raise CheckpointError(f"{path}: is not a regular file; name the checkpoint file itself")
    try:
        handle = safe_open(path, "np")
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror or error}") from None
    except SafetensorError as error:
        if is_pickle(path):
            raise CheckpointError(_about_pickle(path, converter)) from None
        raise CheckpointError(f"{path}: is not a valid safetensors file: {error}") from None
    repeated = sorted(_repeated_names(path))
    if repeated:
        raise CheckpointError(f"{path}: the header names tensors twice: {', '.join(repeated)}")
    tensors = {name: _stored(handle, name, path) for name in handle.keys()}  # noqa: SIM118  not a dict
    return StoredCheckpoint(str(path), tensors, handle.metadata() or {})


def is_pickle(path: Path) -> bool:
    """Return whether a file that is not valid safetensors starts like a Python pickle."""
    with path.open("rb") as file:
        start = file.read(9)
    header = start[8:] == b"{"  # safetensors: 8 bytes of any value, the header's length, then JSON
    return start.startswith(ZIP_START) or (start.startswith(PICKLE_START) and not header)


def _stored(handle: safe_open, name: str, path: Path) -> StoredTensor:
    view = handle.get_slice(name)

    def read() -> np.ndarray:
        try:
            return handle.get_tensor(name)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{path}: {name} cannot be read ({error})") from None

    return StoredTensor(tuple(view.get_shape()), view.get_dtype(), read)


def _about_pickle(path: Path, converter: str) -> str:
    return (
        f"{path}: is a pickle, which can run code when opened, so it is not loaded here. "
        f"Convert it once, from a checkout of aura-jax: python -m {converter} {path} "
        "OUT.safetensors (it reads the file with torch's weights_only=True)"
    )


def _repeated_names(path: Path) -> Iterator[str]:
    """Find names that occur twice in the header, of which JSON readers silently keep the last."""
    with path.open("rb") as file:
        header = file.read(int.from_bytes(file.read(8), "little"))
    pairs: list[tuple[str, object]] = json.loads(header, object_pairs_hook=list)
    counts = Counter(name for name, _ in pairs)
    return (name for name, count in counts.items() if count > 1)

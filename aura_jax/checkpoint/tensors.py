"""Open a safetensors file: its metadata, and its named tensors, which are read on request."""

import dataclasses
import json
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from aura_jax.dtypes import BFLOAT16, FLOAT16, FLOAT32
from aura_jax.errors import AuraError, CheckpointError, listed, printable

MAX_HEADER, MAX_TENSORS = 2**23, 20_000  # bytes and names, far above those of real pipelines
# The names in the safetensors format of the dtypes that parameters and latents can have.
FLOAT_TYPES = {"BF16": BFLOAT16, "F16": FLOAT16, "F32": FLOAT32}
CONFIG_FILE = "config.json"  # beside a checkpoint
OTHER_ENDINGS = {".npz", ".npy", ".zip", ".h5", ".msgpack", ".onnx", ".pkl", ".tar"}
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
        prefix: the prefix that has been removed from all stored names.
        config: the text of config.json beside the file, of this or another program, if there is
            one.
    """

    source: str
    tensors: Mapping[str, StoredTensor]
    metadata: Mapping[str, str]
    prefix: str = ""
    config: str | None = None


def open_safetensors(
    path: str | Path, *, converter: str = "convert --allow-pickle"
) -> StoredCheckpoint:
    """Open a safetensors file, with any file name extension, and read its header.

    Args:
        path: the file.
        converter: the module of this repository that converts a pickle of the same content, with
            its options; the error about a pickle names it.

    Raises:
        CheckpointError: if the file cannot be read, is a pickle, or has an invalid header or one of
            more than 8 MB or 20,000 tensors.
    """
    path = Path(path)
    if not path.exists():
        raise CheckpointError(f"{path}: no such file")
    if not path.is_file():
        raise CheckpointError(f"{path}: is not a regular file; name the checkpoint file itself")
    try:
        _check_size(path)
        handle = safe_open(path, "np")
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror or error}") from None
    except SafetensorError as error:
        if is_pickle(path):
            raise CheckpointError(_about_pickle(path, converter)) from None
        reason = printable(str(error))
        raise CheckpointError(f"{path}: is not a valid safetensors file: {reason}") from None
    tensors = {
        name: StoredTensor(
            tuple(entry["shape"]), entry["dtype"], partial(_read, handle, name, path)
        )
        for name, entry in _entries(path).items()
    }
    return StoredCheckpoint(str(path), tensors, handle.metadata() or {})


def check_ending(path: Path) -> None:
    """Check that a safetensors file to be written is not named like a file of another format.

    Raises:
        AuraError: if it is.
    """
    if path.suffix.lower() in OTHER_ENDINGS:
        raise AuraError(
            f"{path}: the file is written as safetensors; give a name that ends in .safetensors"
        )


def is_pickle(path: Path) -> bool:
    """Return whether a file that is not valid safetensors starts like a Python pickle."""
    with path.open("rb") as file:
        start = file.read(9)
    header = start[8:] == b"{"  # safetensors: 8 bytes of any value, the header's length, then JSON
    return start.startswith(ZIP_START) or (start.startswith(PICKLE_START) and not header)


def _check_size(path: Path) -> None:
    """Refuse a header that takes long to parse; the format itself allows 100 MB.

    Raises:
        CheckpointError: if the header is larger than that of any checkpoint.
    """
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
    if MAX_HEADER < size <= path.stat().st_size:
        raise CheckpointError(
            f"{path}: has a header of {size:,} bytes, more than {MAX_HEADER:,}; "
            "no checkpoint of an autoencoder needs that many"
        )


def _entries(path: Path) -> dict[str, Any]:
    """Return the header's entry for each tensor of a file that is valid.

    This is quicker than asking safetensors 0.8 for each entry. Of two equal names safetensors keeps
    the last, without an error.

    Raises:
        CheckpointError: if a name occurs twice, or there are too many.
    """
    with path.open("rb") as file:
        header = file.read(int.from_bytes(file.read(8), "little"))
    pairs: list[tuple[str, Any]] = json.loads(header, object_pairs_hook=list)
    if len(pairs) > MAX_TENSORS:
        raise CheckpointError(f"{path}: has {len(pairs):,} tensors, more than {MAX_TENSORS:,}")
    counts = Counter(name for name, _ in pairs)
    if len(counts) < len(pairs):
        repeated = sorted(name for name, count in counts.items() if count > 1)
        raise CheckpointError(f"{path}: the header names tensors twice: {listed(repeated)}")
    return {name: dict(entry) for name, entry in pairs if name != "__metadata__"}


def _read(handle: safe_open, name: str, path: Path) -> np.ndarray:
    try:
        return handle.get_tensor(name)
    except (OSError, SafetensorError) as error:
        reason = printable(f"{name} cannot be read ({error})")
        raise CheckpointError(f"{path}: {reason}") from None


def _about_pickle(path: Path, converter: str) -> str:
    return (
        f"{path}: is a pickle, which can run code when opened, so it is not loaded here. "
        f"Convert it once, from a checkout of aura-jax: python -m {converter} {path} "
        "OUT.safetensors (it reads the file with torch's weights_only=True)"
    )

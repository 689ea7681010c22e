"""What a checkpoint file holds: named tensors that are read when asked for, and metadata."""

import dataclasses
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import ml_dtypes  # registers bfloat16 with numpy, which safetensors asks for
import numpy as np
from safetensors import SafetensorError, safe_open

from aura_jax.errors import CheckpointError

FLOAT_TYPES = {  # the format's names of the types that parameters and latents can have
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F16": np.dtype(np.float16),
    "F32": np.dtype(np.float32),
}
ZIP_START, PICKLE_START = b"PK\x03\x04", b"\x80"  # torch ≥ 1.6 zips its pickles


@dataclasses.dataclass(frozen=True)
class StoredTensor:
    """A tensor of a file: its shape, its type as the format names it (BF16), a way to read it."""

    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], np.ndarray]


@dataclasses.dataclass(frozen=True)
class StoredCheckpoint:
    """The tensors and metadata of a file; `source` names it in messages."""

    source: str
    tensors: Mapping[str, StoredTensor]
    metadata: Mapping[str, str]


def open_safetensors(path: str | Path) -> StoredCheckpoint:
    """Opens a safetensors file by its content, whatever its name ends in, and reads its header.

    Raises:
        CheckpointError: if it cannot be read, is a pickle, or its header is not sound.
    """
    if Path(path).exists() and not Path(path).is_file():
        raise CheckpointError(f"{path}: is not a regular file; name the checkpoint file itself")
    try:
        handle = safe_open(path, "np")
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: {_reason(Path(path), error)}") from None
    repeated = sorted(_repeated_names(Path(path)))
    if repeated:
        raise CheckpointError(f"{path}: the header names tensors twice: {', '.join(repeated)}")
    tensors = {name: _stored(handle, name, path) for name in handle.keys()}  # noqa: SIM118  no dict
    return StoredCheckpoint(str(path), tensors, handle.metadata() or {})


def is_pickle(path: Path) -> bool:
    """Whether a file that is no sound safetensors file starts as Python's pickles do."""
    with path.open("rb") as file:
        start = file.read(9)
    header = start[8:] == b"{"  # behind its length, which may look like anything
    return start.startswith(ZIP_START) or (start.startswith(PICKLE_START) and not header)


def _stored(handle: safe_open, name: str, path: str | Path) -> StoredTensor:
    view = handle.get_slice(name)

    def read() -> np.ndarray:
        try:
            return handle.get_tensor(name)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{path}: {name} cannot be read ({error})") from None

    return StoredTensor(tuple(view.get_shape()), view.get_dtype(), read)


def _reason(path: Path, error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if is_pickle(path):
        return (
            "is a pickle, which can run code when opened, so it is not loaded here. "
            "Convert it once, from a checkout of aura-jax: "
            f"python -m convert --allow-pickle {path} weights.safetensors "
            "(it reads the file with torch's weights_only=True)"
        )
    return f"is not a sound safetensors file: {error}"


def _repeated_names(path: Path) -> Iterator[str]:
    """Names that stand twice in the header: JSON readers keep the last one without a word."""
    with path.open("rb") as file:
        header = file.read(int.from_bytes(file.read(8), "little"))
    pairs: list[tuple[str, object]] = json.loads(header, object_pairs_hook=list)
    counts = Counter(name for name, _ in pairs)
    return (name for name, count in counts.items() if count > 1)

"""Opens what a checkpoint may be: safetensors under any name, or a pickle made by PyTorch."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from aura_jax.errors import CheckpointError
from aura_jax.storage import StoredCheckpoint, StoredTensor, is_pickle, open_safetensors


def open_source(path: Path, *, allow_pickle: bool) -> StoredCheckpoint:
    """Opens a checkpoint, told apart by content.

    Args:
        path: the file.
        allow_pickle: whether a pickle may be read (with weights_only=True, so no code is run).

    Raises:
        CheckpointError: if it cannot be read, or is a pickle that was not allowed or that holds
            anything but a state dict.
    """
    try:
        return open_safetensors(path)
    except CheckpointError:
        if allow_pickle and path.is_file() and is_pickle(path):
            return _open_pickle(path)
        raise


def _open_pickle(path: Path) -> StoredCheckpoint:
    import torch  # 5 GB that safetensors do not need

    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zip(path))
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{path}: not a pickle of tensors alone: {reason}") from None
    state = _state_dict(content)
    if not state:
        raise CheckpointError(f"{path}: no state dict found, only a {type(content).__name__}")
    tensors = {name: _stored(tensor) for name, tensor in state.items()}
    return StoredCheckpoint(str(path), tensors, {})


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"PK"


def _state_dict(content: Any) -> dict[str, Any]:
    """The mapping of names to tensors: the content itself, or the one that lies in it."""
    if not isinstance(content, Mapping):
        return {}
    tensors = {name: value for name, value in content.items() if hasattr(value, "untyped_storage")}
    if tensors:
        return tensors
    inner = [state for value in content.values() if (state := _state_dict(value))]
    return inner[0] if len(inner) == 1 else {}


def _stored(tensor: Any) -> StoredTensor:
    import torch

    names = {
        torch.bfloat16: "BF16",
        torch.float16: "F16",
        torch.float32: "F32",
        torch.float64: "F64",
    }

    def read() -> np.ndarray:
        if tensor.dtype == torch.bfloat16:  # numpy has no such type of its own
            bits = tensor.detach().contiguous().view(torch.int16).numpy()
            return bits.view(ml_dtypes.bfloat16)
        return tensor.detach().numpy()

    return StoredTensor(tuple(tensor.shape), names.get(tensor.dtype, str(tensor.dtype)), read)

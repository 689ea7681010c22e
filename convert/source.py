"""Open a file of weights, whose format (safetensors or PyTorch's pickle) its content shows."""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from aura_jax.checkpoint.prefix import NETWORKS
from aura_jax.checkpoint.shards import open_checkpoint
from aura_jax.checkpoint.tensors import StoredCheckpoint, StoredTensor, is_pickle
from aura_jax.errors import CheckpointError, printable
from aura_jax.extras import needs

MAX_DEPTH = 3  # of nested mappings; a mapping may contain itself


def open_source(
    path: Path,
    *,
    allow_pickle: bool,
    networks: Collection[str] = NETWORKS,
    key: str | None = None,
) -> StoredCheckpoint:
    """Open a file of weights, recognized by its content as safetensors or a pickle.

    A pickle may hold counters, optimizers and other networks beside the state dict.

    Args:
        path: the file.
        allow_pickle: whether a pickle may be read (with weights_only=True, so no code is run).
        networks: parts of parameter names, any of which marks the state dict in a pickle.
        key: the key of the state dict in a pickle with several, with dots between nested keys.

    Raises:
        CheckpointError: if the file cannot be read, or is a pickle without `allow_pickle`; if a
            pickle has no such state dict, has several and `key` is not given, or has none under
            `key`; or if `key` is given for a file that is not a pickle.
        AuraError: if it is a pickle and PyTorch is not installed.
    """
    try:
        stored = open_checkpoint(path)
    except CheckpointError:
        if allow_pickle and path.is_file() and is_pickle(path):
            return _open_pickle(path, networks, key)
        raise
    if key is not None:
        raise CheckpointError(f"{path}: is not a pickle, so it has no key {key!r}; omit --key")
    return stored


def _open_pickle(path: Path, networks: Collection[str], key: str | None) -> StoredCheckpoint:
    with needs("torch"):
        import torch  # late: safetensors do not need its 5 GB
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zip(path))
    except Exception:  # a corrupt pickle can make the unpickler raise any exception
        raise CheckpointError(
            f"{path}: torch cannot read this pickle with weights_only=True: it is broken, or holds "
            "more than tensors and could run code; save its state dict alone"
        ) from None
    states = dict(_state_dicts(content, "", networks))
    if key not in states and (key is not None or len(states) != 1):
        wanted = "one state dict" if key is None else f"a state dict under the key {key!r}"
        found = printable(", ".join(states)) or f"only a {type(content).__name__}"
        advice = "; choose one with --key" if states else ""
        raise CheckpointError(
            f"{path}: expected {wanted} with tensors of {' or '.join(networks)}, "
            f"found {found}{advice}"
        )
    state = states[key] if key is not None else next(iter(states.values()))
    return StoredCheckpoint(str(path), {n: _stored(tensor) for n, tensor in state.items()}, {})


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"PK"


def _state_dicts(
    content: Any, name: str, networks: Collection[str], depth: int = 0
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Find the mappings that hold parameters of the networks, and their paths in the content."""
    if not isinstance(content, Mapping) or depth > MAX_DEPTH:
        return
    dense = {k: v for k, v in content.items() if isinstance(k, str) and _is_dense(v)}
    if any({*networks} & {*key.split(".")} for key in dense):
        yield name or "state dict", dense
        return
    for key, value in content.items():
        yield from _state_dicts(value, f"{name}.{key}".strip("."), networks, depth + 1)


def _is_dense(value: Any) -> bool:
    """Return whether a value is a dense tensor in main memory."""
    import torch

    if not isinstance(value, torch.Tensor):
        return False
    return value.layout == torch.strided and value.device.type == "cpu"


def _stored(tensor: Any) -> StoredTensor:
    import torch

    names = {torch.bfloat16: "BF16", torch.float16: "F16"}
    names |= {torch.float32: "F32", torch.float64: "F64"}

    def read() -> np.ndarray:
        if tensor.dtype == torch.bfloat16:  # PyTorch does not convert it to numpy
            bits = tensor.detach().contiguous().view(torch.int16).numpy()
            return bits.view(ml_dtypes.bfloat16)
        return tensor.detach().numpy()

    return StoredTensor(tuple(tensor.shape), names.get(tensor.dtype, str(tensor.dtype)), read)

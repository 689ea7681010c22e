"""Two spellings of the same parameters: PyTorch's (weight, OIHW) and Flax's (kernel, scale, HWIO).

Module names are equal in both, so three rules are all there is:

    Flax                 PyTorch
    ….kernel  HWIO       ….weight  OIHW
    ….scale   [C]        ….weight  [C]
    ….bias    [C]        ….bias    [C]
"""

from collections import Counter
from collections.abc import Iterable
from typing import Literal, get_args

import numpy as np

from aura_jax.errors import CheckpointError
from aura_jax.storage import StoredCheckpoint, StoredTensor

Layout = Literal["flax", "torch"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)

WRAPPERS = {"module", "_orig_mod"}  # names that DDP and torch.compile put in between
OIHW_TO_HWIO = (2, 3, 1, 0)
HWIO_TO_OIHW = (3, 2, 0, 1)


def in_flax_layout(stored: StoredCheckpoint) -> dict[str, StoredTensor]:
    """The tensors by their Flax names and with Flax's axes, free of training wrappers' prefixes.

    Raises:
        CheckpointError: if two tensors get the same name.
    """
    names = {name: unwrapped(name) for name in stored.tensors}
    counts = Counter(names.values())
    repeated = sorted(name for name, plain in names.items() if counts[plain] > 1)
    if repeated:
        raise CheckpointError(f"{stored.source}: duplicate tensors: {', '.join(repeated)}")
    tensors = {names[name]: tensor for name, tensor in stored.tensors.items()}
    if layout_of(tensors) == "flax":
        return tensors
    return {flax_name(name, len(t.shape)): _with_flax_axes(t) for name, t in tensors.items()}


def layout_of(names: Iterable[str]) -> Layout:
    """The layout whose endings the names have; only Flax has kernels and scales."""
    flax = any(name.endswith((".kernel", ".scale")) for name in names)
    return "flax" if flax else "torch"


def unwrapped(name: str) -> str:
    """The name without the prefixes of training wrappers, wherever they stand."""
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def flax_name(torch_name: str, ndim: int) -> str:
    """The Flax spelling of a PyTorch name, which needs the rank: weights of norms are scales."""
    stem, _, leaf = torch_name.rpartition(".")
    if leaf == "weight":
        return f"{stem}.{'scale' if ndim == 1 else 'kernel'}"
    return torch_name


def torch_name(flax_name: str) -> str:
    """The PyTorch spelling of a Flax name."""
    stem, _, leaf = flax_name.rpartition(".")
    return f"{stem}.{'bias' if leaf == 'bias' else 'weight'}"


def hwio(oihw: np.ndarray) -> np.ndarray:
    """A PyTorch array with Flax's axes: a contiguous HWIO kernel, or a vector as it is."""
    return np.ascontiguousarray(oihw.transpose(OIHW_TO_HWIO)) if oihw.ndim == 4 else oihw


def oihw(hwio: np.ndarray) -> np.ndarray:
    """A Flax array with PyTorch's axes: a contiguous OIHW weight, or a vector as it is.

    Contiguous because safetensors writes a strided array's memory, not its elements, in order.
    """
    return np.ascontiguousarray(hwio.transpose(HWIO_TO_OIHW)) if hwio.ndim == 4 else hwio


def _with_flax_axes(tensor: StoredTensor) -> StoredTensor:
    if len(tensor.shape) != 4:
        return tensor
    shape = tuple(tensor.shape[axis] for axis in OIHW_TO_HWIO)
    return StoredTensor(shape, tensor.dtype, lambda: hwio(tensor.read()))

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

from aura_jax.checkpoint.tensors import StoredCheckpoint, StoredTensor

type Shape = tuple[int, ...]
Layout = Literal["flax", "torch"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)

WRAPPERS = {"module", "_orig_mod"}  # names that DDP and torch.compile put in between
OIHW_TO_HWIO = (2, 3, 1, 0)
HWIO_TO_OIHW = (3, 2, 0, 1)


def unwrapped(stored: StoredCheckpoint) -> dict[str, StoredTensor]:
    """The tensors by their names without the prefixes of training wrappers."""
    return {without_wrappers(name): tensor for name, tensor in stored.tensors.items()}


def without_wrappers(name: str) -> str:
    """The name without `module.` and `_orig_mod.`, wherever they stand."""
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def layout_of(names: Iterable[str]) -> Layout:
    """The layout that most endings speak of; only Flax has kernels and scales."""
    endings = Counter(name.rpartition(".")[2] for name in names)
    return "flax" if endings["kernel"] + endings["scale"] > endings["weight"] else "torch"


def torch_name(flax_name: str) -> str:
    """The PyTorch spelling of a Flax name."""
    stem, _, leaf = flax_name.rpartition(".")
    return f"{stem}.{'bias' if leaf == 'bias' else 'weight'}"


def torch_shape(flax_shape: Shape) -> Shape:
    """The shape that `oihw` gives an array of this shape."""
    return tuple(flax_shape[axis] for axis in HWIO_TO_OIHW) if len(flax_shape) == 4 else flax_shape


def hwio(array: np.ndarray) -> np.ndarray:
    """A PyTorch array with Flax's axes: a contiguous HWIO kernel, or a vector as it is."""
    return np.ascontiguousarray(array.transpose(OIHW_TO_HWIO)) if array.ndim == 4 else array


def oihw(array: np.ndarray) -> np.ndarray:
    """A Flax array with PyTorch's axes: a contiguous OIHW weight, or a vector as it is.

    Contiguous because safetensors writes a strided array's memory, not its elements, in order.
    """
    return np.ascontiguousarray(array.transpose(HWIO_TO_OIHW)) if array.ndim == 4 else array

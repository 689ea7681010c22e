"""Translate parameters between PyTorch's names (weight, OIHW) and Flax's (kernel, scale, HWIO).

Module names are the same in both, so three rules suffice:

    Flax                 PyTorch
    ….kernel  HWIO       ….weight  OIHW
    ….scale   [C]        ….weight  [C]
    ….bias    [C]        ….bias    [C]
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Literal, get_args

import numpy as np

from aura_jax.arrays import Shape

Layout = Literal["flax", "torch"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)

# Parts of names that DDP, torch.compile, FSDP and activation checkpointing insert.
WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
OIHW_TO_HWIO = (2, 3, 1, 0)
HWIO_TO_OIHW = (3, 2, 0, 1)


def without_wrappers(name: str) -> str:
    """Remove the parts that training wrappers insert, such as `module.`, wherever they occur."""
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def layout_of(names: Iterable[str]) -> Layout:
    """Return the layout of most of the names; only Flax names end in kernel or scale."""
    endings = Counter(name.rpartition(".")[2] for name in names)
    return "flax" if endings["kernel"] + endings["scale"] > endings["weight"] else "torch"


def flax_name(torch_name: str, ndim: int) -> str:
    """Translate a PyTorch name to Flax's.

    Args:
        torch_name: the name, which ends in weight or bias.
        ndim: the tensor's number of axes: a weight of four is a kernel, a weight of one a scale.
    """
    stem, _, leaf = torch_name.rpartition(".")
    return torch_name if leaf == "bias" else f"{stem}.{'kernel' if ndim == 4 else 'scale'}"


def torch_name(flax_name: str) -> str:
    """Translate a Flax name to PyTorch's."""
    stem, _, leaf = flax_name.rpartition(".")
    return f"{stem}.{'bias' if leaf == 'bias' else 'weight'}"


def in_layout(flax_shapes: Mapping[str, Shape], layout: Layout) -> dict[str, Shape]:
    """Translate the names and shapes of a Flax module's parameters to those of a layout."""
    if layout == "flax":
        return dict(flax_shapes)
    return {torch_name(name): torch_shape(shape) for name, shape in flax_shapes.items()}


def torch_shape(flax_shape: Shape) -> Shape:
    """Return the shape that `oihw` gives an array of this shape."""
    return tuple(flax_shape[axis] for axis in HWIO_TO_OIHW) if len(flax_shape) == 4 else flax_shape


def hwio(array: np.ndarray) -> np.ndarray:
    """Reorder a PyTorch weight OIHW to a contiguous Flax kernel HWIO; return a vector unchanged."""
    return np.ascontiguousarray(array.transpose(OIHW_TO_HWIO)) if array.ndim == 4 else array


def oihw(array: np.ndarray) -> np.ndarray:
    """Reorder a Flax kernel HWIO to a contiguous PyTorch weight OIHW; return a vector unchanged.

    The copy is contiguous because safetensors 0.8 writes an array's memory and ignores its strides.
    """
    return np.ascontiguousarray(array.transpose(HWIO_TO_OIHW)) if array.ndim == 4 else array

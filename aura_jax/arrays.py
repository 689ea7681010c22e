"""Check arrays that users pass in, and compare arrays."""

import sys
from collections.abc import Collection
from typing import Any

import jaxtyping
import numpy as np

from aura_jax.dtypes import FLOATS, alternatives
from aura_jax.errors import ArrayError, counted

type Size = Any  # an int, or a symbolic dimension of `jax.export`
type Shape = tuple[Size, ...]
type AnyArray = jaxtyping.Array | np.ndarray  # evaluated by type checkers only: it imports jax


def relative_error(x: np.ndarray, reference: np.ndarray) -> float:
    """Compute ‖x - reference‖ / ‖reference‖ in the L2 norm, in float64; 0 if both are zero."""
    exact = reference.astype(np.float64)
    distance, norm = np.linalg.norm(x.astype(np.float64) - exact), np.linalg.norm(exact)
    if norm == 0:
        return 0.0 if distance == 0 else np.inf
    return float(distance / norm)


def check_is_array(name: str, x: Any) -> None:
    """Check that `x` is a numpy or a jax array.

    Raises:
        ArrayError: if it is not.
    """
    jax = sys.modules.get("jax")  # not imported: readers of cached latents do not need JAX
    if not isinstance(x, np.ndarray) and not (jax is not None and isinstance(x, jax.Array)):
        raise ArrayError(f"{name}: expected a jax or numpy array, got a {type(x).__name__}")


def check_array(
    name: str,
    x: Any,
    channels: int,
    *,
    axes: str | None = "batch, height, width",
    dtypes: Collection[np.dtype] = FLOATS,
    min_side: int = 1,
) -> None:
    """Check that `x` is an array of images or latents, channels last.

    Args:
        name: the argument's name, for the message.
        x: the value to check.
        channels: the size that its last axis must have.
        axes: the names of the axes before the channels; None allows any number of axes.
        dtypes: the dtypes it may have.
        min_side: the least height and width, in pixels.

    Raises:
        ArrayError: if it is not an array, or its layout, dtype or size is wrong.
    """
    check_is_array(name, x)
    got = f"{name} of shape {x.shape} and dtype {x.dtype}"
    if axes is not None and x.ndim != axes.count(",") + 2:
        raise ArrayError(f"{got}: expected [{axes}, {channels}]")
    if x.ndim < 1 or x.shape[-1] != channels:
        nchw = x.ndim == 4 and x.shape[1] == channels
        hint = "; this looks like NCHW, move axis 1 to the end" if nchw else ""
        raise ArrayError(f"{got}: expected {counted(channels, 'channel')} on the last axis{hint}")
    if x.dtype not in dtypes:
        hint = "; convert 8-bit levels with x / 127.5 - 1" if x.dtype == np.uint8 else ""
        raise ArrayError(f"{got}: expected {alternatives(dtypes)}{hint}")
    if axes is not None and (x.shape[0] == 0 or min(x.shape[-3:-1]) < min_side):
        raise ArrayError(f"{got}: expected one image or more, with sides of {min_side} or more")

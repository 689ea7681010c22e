"""Names of dtypes, said one way everywhere: in Python, on the command line and in files."""

from collections.abc import Collection
from typing import TYPE_CHECKING

import ml_dtypes  # registers bfloat16 with numpy
import numpy as np

from aura_jax.errors import AuraError

if TYPE_CHECKING:
    from jax.typing import DTypeLike

BFLOAT16, FLOAT16, FLOAT32 = (
    np.dtype(each) for each in (ml_dtypes.bfloat16, np.float16, np.float32)
)
MODEL_DTYPES = (BFLOAT16, FLOAT16, FLOAT32)  # that parameters and latents are kept in
FLOATS = (*MODEL_DTYPES, np.dtype(np.float64))  # that arrays of users may have
SHORT_NAMES = {"bf16": "bfloat16", "f16": "float16", "fp16": "float16", "f32": "float32"}
SHORT_NAMES["fp32"] = "float32"


def as_dtype(
    dtype: "DTypeLike", allowed: Collection[np.dtype] = MODEL_DTYPES, *, name: str = "dtype"
) -> np.dtype:
    """Return the numpy dtype of a name or type, such as "bfloat16", "bf16" or `jnp.bfloat16`.

    Args:
        dtype: a name, a scalar type or a dtype.
        allowed: the dtypes that may be meant.
        name: the argument or option, for the message.

    Raises:
        AuraError: if it is none of `allowed`.
    """
    spelled = SHORT_NAMES.get(dtype, dtype) if isinstance(dtype, str) else dtype
    try:
        known = None if spelled is None else np.dtype(spelled)
    except TypeError:
        known = None
    if known is None or known not in allowed:
        raise AuraError(f"{name} {dtype!r}: expected {' or '.join(map(str, allowed))}")
    return known


def default_compute_dtype(platform: str | None = None) -> np.dtype:
    """Return float32 on a CPU, which is slow in bfloat16, and bfloat16 on accelerators.

    Args:
        platform: "cpu", "gpu" or "tpu"; by default the one JAX runs on.
    """
    if platform is None:
        import jax  # late: readers of cached latents do without it

        platform = jax.default_backend()
    return FLOAT32 if platform == "cpu" else BFLOAT16

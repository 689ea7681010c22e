"""Names of dtypes, the same in Python, on the command line and in files."""

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
MODEL_DTYPES = (BFLOAT16, FLOAT16, FLOAT32)  # of parameters and latents
FLOATS = (*MODEL_DTYPES, np.dtype(np.float64))  # of arrays that users pass in
SHORT_NAMES = {"bf16": BFLOAT16, "f16": FLOAT16, "fp16": FLOAT16, "f32": FLOAT32, "fp32": FLOAT32}


def as_dtype(
    dtype: "DTypeLike", allowed: Collection[np.dtype] = MODEL_DTYPES, *, name: str = "dtype"
) -> np.dtype:
    """Return the numpy dtype of a name or type, such as "bfloat16", "bf16" or `jnp.bfloat16`.

    Args:
        dtype: a name, a scalar type or a dtype.
        allowed: the dtypes to choose from.
        name: the argument or option, for the message.

    Raises:
        AuraError: if it is not one of `allowed`.
    """
    spelled = SHORT_NAMES.get(dtype, dtype) if isinstance(dtype, str) else dtype
    try:
        known = None if spelled is None else np.dtype(spelled)
    except TypeError:
        known = None
    if known is None or known not in allowed:
        raise AuraError(f"{name} {dtype!r}: expected {alternatives(allowed)}")
    return known


def alternatives(dtypes: Collection[np.dtype]) -> str:
    """Format dtypes as a list of choices, such as "bfloat16, float16 or float32"."""
    *names, last = map(str, dtypes)
    return f"{', '.join(names)} or {last}" if names else last


def default_compute_dtype(platform: str | None = None) -> np.dtype:
    """Return float32 on a CPU, which is slow in bfloat16, and bfloat16 on accelerators.

    Args:
        platform: "cpu", "gpu" or "tpu"; by default the one JAX runs on.
    """
    if platform is None:
        import jax  # late: readers of cached latents must not need JAX

        platform = jax.default_backend()
    return FLOAT32 if platform == "cpu" else BFLOAT16

"""Convert latents to the dtype that a cache stores, and back."""

import numpy as np
from jaxtyping import Float, Float32

from aura_jax.config import LATENT_LIMIT
from aura_jax.latents.spec import INT8

STEP = LATENT_LIMIT / 127  # of int8; -128 is never used, so negation is exact


def quantize(latents: Float[np.ndarray, "*shape"], dtype: np.dtype) -> np.ndarray:
    """Round latents within ±8 to the nearest value of a dtype; for int8, to multiples of 8/127.

    Rounding treats both signs the same, so it commutes with `flip_latents`, bit for bit.

    Args:
        latents: floats of any shape.
        dtype: one of `STORAGE_DTYPES`.
    """
    if dtype == INT8:
        return np.rint(latents.astype(np.float32) / np.float32(STEP)).astype(np.int8)
    return latents.astype(dtype)


def dequantize(values: np.ndarray) -> Float32[np.ndarray, "*shape"]:
    """Convert what `quantize` returned to float32."""
    numbers = values.astype(np.float32)
    return numbers * np.float32(STEP) if values.dtype == INT8 else numbers

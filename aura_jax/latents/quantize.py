"""The types that cached latents are stored in, and what restores them."""

import ml_dtypes
import numpy as np
from jaxtyping import Float, Float32

from aura_jax.config import LATENT_LIMIT
from aura_jax.latents.spec import NumberType

NUMPY_TYPES: dict[NumberType, np.dtype] = {
    "bf16": np.dtype(ml_dtypes.bfloat16),
    "float32": np.dtype(np.float32),
    "int8": np.dtype(np.int8),
    "float8_e4m3fn": np.dtype(ml_dtypes.float8_e4m3fn),
}
STEP = LATENT_LIMIT / 127  # of int8, whose -128 is never used: negation is exact


def stored(latents: Float[np.ndarray, "*shape"], number_type: NumberType) -> np.ndarray:
    """Latents in ±8, rounded to the nearest value of a type; int8 holds multiples of 8/127.

    Rounding treats both signs alike, so it commutes with `flip_latents`, bit for bit.
    """
    if number_type == "int8":
        return np.rint(latents.astype(np.float32) / np.float32(STEP)).astype(np.int8)
    return latents.astype(NUMPY_TYPES[number_type])


def restored(values: np.ndarray) -> Float32[np.ndarray, "*shape"]:
    """What was stored, as float32."""
    numbers = values.astype(np.float32)
    return numbers * np.float32(STEP) if values.dtype == np.int8 else numbers

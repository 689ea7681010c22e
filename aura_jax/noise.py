"""The noise that AuraEquiVAE's decoder was trained to undo."""

import jax
from jaxtyping import Array, Float


def perturb(key: Array, z: Float[Array, "*shape"], sigma: float = 0.1) -> Float[Array, "*shape"]:
    """Multiply each value of a latent by 1 + sigma·n, where n ~ N(0, 1), as the reference does.

    Args:
        key: a jax.random key.
        z: latents of any shape and floating-point dtype.
        sigma: relative standard deviation of the noise.
    """
    return z * (1 + sigma * jax.random.normal(key, z.shape, z.dtype))

"""Jit-compiled encode and decode.

The weights are arguments of the compiled functions, so they are not baked into the executable and
one compilation serves every checkpoint of the same config.
"""

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from aura_jax.errors import ArrayError
from aura_jax.model.autoencoder import AuraEquiVAE

PIXEL_LIMIT = 2.0  # resampling overshoots [-1, 1] a little; 8-bit values in a float array do by far


@jax.jit
def _encode(vae: AuraEquiVAE, images: Array) -> Array:
    return vae.encode(images)


@jax.jit
def _decode(vae: AuraEquiVAE, latents: Array) -> Array:
    return vae.decode(latents)


def encode(vae: AuraEquiVAE, images: Array | np.ndarray) -> Float[Array, "b h w z"]:
    """Encodes a batch of images; compiles once per shape and type.

    Args:
        vae: the model, as `aura_jax.load` gives it.
        images: [B, H, W, 3], floats in [-1, 1], such as `pixels / 127.5 - 1`.

    Returns:
        Latents [B, H/8, W/8, 16], clamped to ±8, in the model's compute dtype.

    Raises:
        ArrayError: if the layout, shape, type or range is wrong. The range is looked at only
            where values are known, so not inside another jit; the look waits for `images`.
    """
    check_array("images", images)
    if not isinstance(images, jax.core.Tracer):
        _check_range(images)
    return _encode(vae, images)


def decode(vae: AuraEquiVAE, latents: Array | np.ndarray) -> Float[Array, "b h w c"]:
    """Decodes a batch of latents; compiles once per shape and type.

    Args:
        vae: the model, as `aura_jax.load` gives it.
        latents: [B, h, w, 16], floats, as `encode` gives them.

    Returns:
        Images [B, 8h, 8w, 3] in the model's compute dtype, nominally in [-1, 1] but not clamped.

    Raises:
        ArrayError: if the layout, shape or type is wrong.
    """
    check_array("latents", latents)
    return _decode(vae, latents)


def check_array(name: str, x: object) -> None:
    """Refuses lists and whatever else is no array.

    Raises:
        ArrayError: with the type it has.
    """
    if not isinstance(x, jax.Array | np.ndarray):
        raise ArrayError(f"{name}: expected a jax or numpy array, got a {type(x).__name__}")


def _check_range(images: Array | np.ndarray) -> None:
    if images.size == 0 or not jnp.issubdtype(images.dtype, jnp.floating):
        return  # the model's own check says what is wrong
    low, high = float(images.min()), float(images.max())
    if not (low >= -PIXEL_LIMIT and high <= PIXEL_LIMIT):  # so that NaN is caught too
        raise ArrayError(f"images range over [{low:g}, {high:g}]: expected about [-1, 1]")

"""Encode and decode with jit-compiled functions.

The weights are arguments of the compiled functions, so they are not baked into the executable and
one compilation serves every checkpoint of the same config.
"""

import copy

import jax
import jax.core
import numpy as np
from jaxtyping import Array, Float

from aura_jax.arrays import check_array
from aura_jax.model.autoencoder import AuraEquiVAE
from aura_jax.runtime.auto_axes import on_auto_axes
from aura_jax.runtime.inputs import check_range


@jax.jit
def _encode(vae: AuraEquiVAE, images: Array) -> Array:
    with jax.default_matmul_precision("highest"):  # for this trace only
        return on_auto_axes(AuraEquiVAE.encode)(vae, images)


@jax.jit
def _decode(vae: AuraEquiVAE, latents: Array) -> Array:
    with jax.default_matmul_precision("highest"):
        return on_auto_axes(AuraEquiVAE.decode)(vae, latents)


def encode(vae: AuraEquiVAE, images: Array | np.ndarray) -> Float[Array, "b h w z"]:
    """Encode a batch of images, compiling once per shape and dtype.

    Equal images give equal latents. There is no latent distribution to sample from, as diffusers'
    `latent_dist`; `aura_jax.perturb` adds the noise of the training.

    float32 is computed at JAX's precision "highest", so on a GPU it is not rounded to TF32.

    Sides that are not multiples of 8 lose their last pixels, as in the reference: images of
    61 × 67 become latents of 7 × 8, which decode to 56 × 64. To keep all pixels, pad the images
    to multiples of 8 first and crop the decoded images; the command line does both.

    Args:
        vae: the model, as `aura_jax.load` returns it.
        images: [B, H, W, 3], floats in [-1, 1], such as `pixels / 127.5 - 1`.

    Returns:
        Latents [B, H/8, W/8, 16], clamped to ±8, in the model's compute dtype.

    Raises:
        ArrayError: if the layout, shape, dtype or range is wrong. The range check waits for the
            values of `images`, so it is omitted inside another jit.
    """
    config = vae.config
    check_array("images", images, config.in_channels, min_side=config.downsampling)
    if not isinstance(images, jax.core.Tracer):
        check_range(images)
    return _encode(_without_stats(vae), images)


def decode(vae: AuraEquiVAE, latents: Array | np.ndarray) -> Float[Array, "b h w c"]:
    """Decode a batch of latents, compiling once per shape and dtype.

    float32 is computed at JAX's precision "highest", so on a GPU it is not rounded to TF32.

    Args:
        vae: the model, as `aura_jax.load` returns it.
        latents: [B, h, w, 16], floats, as `encode` returns them.

    Returns:
        Images [B, 8h, 8w, 3] in the model's compute dtype, nominally in [-1, 1] but not clamped.

    Raises:
        ArrayError: if the layout, shape or dtype is wrong.
    """
    check_array("latents", latents, vae.config.z_channels)
    return _decode(_without_stats(vae), latents)


def _without_stats(vae: AuraEquiVAE) -> AuraEquiVAE:
    """Return a shallow copy without latent statistics, for which jit would compile again."""
    plain = copy.copy(vae)
    object.__setattr__(plain, "latent_stats", None)  # Flax 0.12 refuses assignments inside jit
    return plain

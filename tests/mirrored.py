"""Decoders that are exactly equivariant by construction, without training."""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from aura_jax import AuraEquiVAE
from aura_jax.symmetry import (
    HORIZONTAL_SIGNS,
    VERTICAL_SIGNS,
)


def with_mirrored_decoder(vae: AuraEquiVAE) -> AuraEquiVAE:
    """Return a copy whose decoder kernels are averaged over their reflections.

    Such kernels commute with flips. conv_in, which sees the latent, is reflected together with the
    signs that the flip gives its input channels.
    """
    vae = nnx.clone(vae)
    for path, module in nnx.iter_modules(vae.decoder):
        if isinstance(module, nnx.Conv):
            kernel = module.kernel[...].astype(jnp.float32)
            signed = path == ("conv_in",)
            kernel = _average(kernel, 1, HORIZONTAL_SIGNS if signed else None)
            kernel = _average(kernel, 0, VERTICAL_SIGNS if signed else None)
            module.kernel[...] = kernel
    return vae


def _average(kernel: Array, axis: int, negated: slice | None) -> Array:
    mirrored = jnp.flip(kernel, axis)
    if negated is not None:
        mirrored = mirrored.at[:, :, negated].multiply(-1)
    return (kernel + mirrored) / 2

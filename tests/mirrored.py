"""Decoders that are exactly equivariant by construction, without training."""

import jax
import numpy as np
from flax import nnx

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
            kernel = np.asarray(module.kernel[...], np.float32)  # JAX would compile each shape
            signed = path == ("conv_in",)
            kernel = _average(kernel, 1, HORIZONTAL_SIGNS if signed else None)
            kernel = _average(kernel, 0, VERTICAL_SIGNS if signed else None)
            module.kernel[...] = jax.device_put(kernel)
    return vae


def _average(kernel: np.ndarray, axis: int, negated: slice | None) -> np.ndarray:
    mirrored = np.flip(kernel, axis).copy()
    if negated is not None:
        mirrored[:, :, negated] *= -1
    return (kernel + mirrored) / 2

"""AuraEquiVAE in JAX: an image autoencoder whose latents flip with the image."""

import importlib
from typing import TYPE_CHECKING, Any

from aura_jax.autoencoder import AuraEquiVAE
from aura_jax.checkpoint import load, save
from aura_jax.config import AuraConfig
from aura_jax.errors import ArrayError, AuraError, CheckpointError, ConfigError, ImageError
from aura_jax.inference import decode, encode
from aura_jax.noise import perturb
from aura_jax.runtime.codec import Codec
from aura_jax.symmetry import Flips, flip_images, flip_latents, random_flips

if TYPE_CHECKING:
    from aura_jax import latents as latents

__all__ = [
    "ArrayError",
    "AuraConfig",
    "AuraEquiVAE",
    "AuraError",
    "CheckpointError",
    "Codec",
    "ConfigError",
    "Flips",
    "ImageError",
    "decode",
    "encode",
    "flip_images",
    "flip_latents",
    "load",
    "perturb",
    "random_flips",
    "save",
]


def __getattr__(name: str) -> Any:
    """`aura_jax.latents` on its first use, since it imports Grain, which is an extra."""
    if name == "latents":
        return importlib.import_module("aura_jax.latents")
    raise AttributeError(f"module 'aura_jax' has no attribute {name!r}")

"""The encoder of a cache, on all devices of a process."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import UInt8

from aura_jax.latents.spec import CacheSpec
from aura_jax.model.autoencoder import equivariant
from aura_jax.photo_latents import load_rgb
from aura_jax.runtime.codec import Codec

# Maps 8-bit images [b, h, w, 3], at most a batch of them, to latents that the devices may still be
# computing: np.asarray waits for them.
type Encode = Callable[[np.ndarray], Any]
type EncoderFactory = Callable[[CacheSpec, str, int], Encode]


class Encoder:
    """The encoder of a model, compiled for one size of batches, which this process's devices share.

    Args:
        spec: the size of images, and the dtype and precision to compute in.
        weights: a checkpoint in any form that `aura_jax.load` accepts.
        batch: the largest number of images in a call; smaller batches are padded to it.
    """

    def __init__(self, spec: CacheSpec, weights: str, batch: int):
        mesh = Mesh(np.array(jax.local_devices()), "data")
        sharding = NamedSharding(mesh, PartitionSpec("data"))
        vae = load_rgb(weights, dtype=spec.compute_dtype)
        vae = equivariant(vae) if spec.equivariant else vae
        self._codec = Codec(vae, precision=spec.precision, sharding=sharding)
        self._codec.warmup([(batch, spec.height, spec.width)], decode=False)

    def __call__(self, images: UInt8[np.ndarray, "b h w 3"]) -> jax.Array:
        """Encode images, without waiting for the result."""
        return self._codec.encode(images)

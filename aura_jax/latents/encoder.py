"""The encoder of a cache, on all devices of a process."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import UInt8

from aura_jax.latents.buckets import Bucket
from aura_jax.latents.spec import CacheSpec
from aura_jax.model.autoencoder import equivariant
from aura_jax.photo_latents import load_rgb
from aura_jax.runtime.codec import Codec

# Maps 8-bit images [b, h, w, 3], at most a batch of them, to latents that the devices may still be
# computing: np.asarray waits for them.
type Encode = Callable[[np.ndarray], Any]
type EncoderFactory = Callable[[CacheSpec, str, int], Encode]


class Encoder:
    """The encoder of a model for batches of one number of images, which the devices share.

    It compiles a program for each size of images.

    Args:
        spec: the sizes of images, and the dtype and precision to compute in.
        weights: a checkpoint in any form that `aura_jax.load` accepts.
        batch: the largest number of images in a call; smaller batches are padded to it.
    """

    def __init__(self, spec: CacheSpec, weights: str, batch: int):
        mesh = Mesh(np.array(jax.local_devices()), "data")
        sharding = NamedSharding(mesh, PartitionSpec("data"))
        vae = load_rgb(weights, dtype=spec.compute_dtype)
        vae = equivariant(vae) if spec.equivariant else vae
        self._codec = Codec(vae, precision=spec.precision, sharding=sharding)
        self._batch, self._compiled = batch, set[Bucket]()
        if not spec.buckets:  # many buckets may stay empty
            self._compile(spec.image_sizes[0])

    def __call__(self, images: UInt8[np.ndarray, "b h w 3"]) -> jax.Array:
        """Encode images, without waiting for the result."""
        self._compile(Bucket(*images.shape[1:3]))
        return self._codec.encode(images)

    def _compile(self, size: Bucket) -> None:
        """Declare the batch of a size, so that smaller ones are padded to it."""
        if size not in self._compiled:
            self._codec.warmup([(self._batch, *size)], decode=False)
            self._compiled.add(size)

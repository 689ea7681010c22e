"""The encoder of a cache, on one device."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import UInt8

from aura_jax.latents.spec import CacheSpec
from aura_jax.photo_latents import load_rgb
from aura_jax.runtime.codec import Codec

# Maps 8-bit images [b, h, w, 3], at most a batch of them, to latents that the device may still be
# computing: np.asarray waits for them.
type Encode = Callable[[np.ndarray], Any]
type EncoderFactory = Callable[[CacheSpec, str, int, Any], Encode]


class Encoder:
    """The encoder of a model, compiled for one size of batches.

    Args:
        spec: the size of images, and the dtype and precision to compute in.
        weights: a checkpoint in any form that `aura_jax.load` accepts.
        batch: the largest number of images in a call; smaller batches are padded to it.
        device: one of `jax.devices()`; the default one if None.
    """

    def __init__(self, spec: CacheSpec, weights: str, batch: int, device: Any = None):
        self._device = device
        with jax.default_device(device):
            vae = load_rgb(weights, dtype=spec.compute_dtype)
            self._codec = Codec(vae, precision=spec.precision)
            self._codec.warmup([(batch, spec.height, spec.width)], decode=False)

    def __call__(self, images: UInt8[np.ndarray, "b h w 3"]) -> jax.Array:
        """Encode images, without waiting for the result."""
        with jax.default_device(self._device):
            return self._codec.encode(images)

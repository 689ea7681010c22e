"""The convolutions of VGG16, whose features losses compare."""

from itertools import pairwise
from typing import Unpack

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from aura_jax.errors import ArrayError
from aura_jax.model.layers import LayerOptions, conv3x3

STAGES = (  # channels before the first convolution of a stage and after each one
    (3, 64, 64),
    (64, 128, 128),
    (128, 256, 256, 256),
    (256, 512, 512, 512),
    (512, 512, 512, 512),
)
# ImageNet's mean and standard deviation of each color, for images in [-1, 1].
SHIFT = np.array((-0.030, -0.088, -0.188), np.float32).reshape(1, 1, 1, 3)
SCALE = np.array((0.458, 0.448, 0.450), np.float32).reshape(1, 1, 1, 3)


class VGG16(nnx.Module):
    """The 13 convolutions of VGG16 (Simonyan & Zisserman 2015), each followed by a relu.

    It takes images [B, H, W, 3] in [-1, 1], normalizes them as (x - SHIFT) / SCALE, and returns the
    last activation of every stage: relu1_2, relu2_2, relu3_3, relu4_3, relu5_3, each of half
    the size (rounded down) of the one before.
    """

    def __init__(self, **options: Unpack[LayerOptions]):
        self.stages = nnx.List(
            nnx.List(conv3x3(cin, cout, **options) for cin, cout in pairwise(widths))
            for widths in STAGES
        )

    def first(self, stages: int) -> "VGG16":
        """Return a copy of the first stages, which shares no memory with this network."""
        copy = jax.tree.map(jnp.copy, self)
        del copy.stages[stages:]
        return copy

    def __call__(self, images: Float[Array, "b h w 3"]) -> list[Float[Array, "b _ _ _"]]:
        """Compute the activation [B, H / 2ⁱ, W / 2ⁱ, C] of each stage i.

        Raises:
            ArrayError: if the images are so small that the last activation would be empty.
        """
        smallest = 2 ** (len(self.stages) - 1)
        if min(images.shape[1:3]) < smallest:
            raise ArrayError(f"images {images.shape}: expected sides of {smallest} or more")
        x, taps = (images - SHIFT) / SCALE, []
        for stage in self.stages:
            if taps:
                x = nnx.max_pool(x, (2, 2), strides=(2, 2))
            for conv in stage:
                x = nnx.relu(conv(x))
            taps.append(x)
        return taps

"""The perceptual distance LPIPS on VGG16, and the file that holds the weights of both."""

import dataclasses
from pathlib import Path
from typing import Unpack

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Float32

from aura_jax.checkpoint.tensors import open_safetensors
from aura_jax.checkpoint.validation import read_exactly
from aura_jax.dtypes import FLOAT32
from aura_jax.model.layers import LayerOptions
from aura_jax.model.parameters import merge, shapes_of
from aura_jax.training.networks.vgg import STAGES, VGG16

UNIT_EPSILON = 1e-10


class LPIPS(nnx.Module):
    """The perceptual distance of Zhang et al. 2018, version 0.1 with VGG16.

        d(x, y) = Σ_l mean_{h,w} w_l · (u(F_l(x)) - u(F_l(y)))²,  u(f) = f / (‖f‖₂ + 1e-10)

    F_l are the five activations of VGG16, norms and products are over the channels of a pixel, and
    the w_l ≥ 0 (`heads`, 1×1 convolutions to one channel) were fitted to human judgments.
    """

    def __init__(self, **options: Unpack[LayerOptions]):
        self.vgg = VGG16(**options)
        self.heads = nnx.List(
            nnx.Conv(
                widths[-1],
                1,
                (1, 1),
                use_bias=False,
                kernel_init=nnx.initializers.uniform(1.0),  # a distance needs weights of 0 or more
                dtype=jnp.float32,  # squares of small differences need float32
                param_dtype=options["param_dtype"],
                rngs=options["rngs"],
            )
            for widths in STAGES
        )

    def __call__(
        self, x: Float[Array, "b h w 3"], y: Float[Array, "b h w 3"]
    ) -> Float32[Array, " b"]:
        """Compute the distance, 0 or more, between each image of x and of y, both in [-1, 1].

        Raises:
            ArrayError: if a side has fewer than 16 pixels.
        """
        layers = zip(self.heads, self.vgg(x), self.vgg(y), strict=True)
        terms = [
            head(jnp.square(_unit(a) - _unit(b))).mean(axis=(1, 2, 3)) for head, a, b in layers
        ]
        return jnp.stack(terms).sum(axis=0)


def _unit(features: Float[Array, "b h w c"]) -> Float32[Array, "b h w c"]:
    """Scale each pixel's channels f to f / (‖f‖₂ + 1e-10)."""
    features = features.astype(jnp.float32)
    power = jnp.square(features).sum(axis=-1, keepdims=True)
    # The derivative of the square root at 0 is infinite, and times the zero derivative of the
    # square it is NaN. So the root must never see the zero power of pixels without features, which
    # dark and uniform images have.
    silent = power == 0
    norm = jnp.where(silent, 0, jnp.sqrt(jnp.where(silent, 1, power)))
    return features / (norm + UNIT_EPSILON)


@dataclasses.dataclass(frozen=True)
class Perceptual:
    """The networks of a file of perceptual weights; `lpips` is None if it holds VGG16 alone."""

    vgg: VGG16
    lpips: LPIPS | None


def load_perceptual(path: str | Path) -> Perceptual:
    """Load the file that `python -m convert.perceptual` writes.

    Parameters and computations are float32, since VGG16 is a small part of a training step.

    Raises:
        CheckpointError: if the file cannot be read, or its tensors are not exactly those of VGG16,
            or of VGG16 and the LPIPS heads; one error names every missing, unexpected, misshaped
            or non-finite tensor.
    """
    stored = open_safetensors(path, converter="convert.perceptual")
    heads = any(name.startswith("heads.") for name in stored.tensors)
    networks = abstract_lpips() if heads else nnx.Dict(vgg=abstract_lpips().vgg)
    noun = "a file that `python -m convert.perceptual` wrote"
    arrays = read_exactly(stored, shapes_of(networks), noun, dtype=FLOAT32)
    loaded = merge(nnx.graphdef(networks), {name: jax.device_put(x) for name, x in arrays})
    return Perceptual(loaded.vgg, loaded if isinstance(loaded, LPIPS) else None)


def abstract_lpips(dtype: DTypeLike = jnp.float32) -> LPIPS:
    """Build LPIPS with shapes but no values, for loading a file."""
    return nnx.eval_shape(lambda: LPIPS(dtype=dtype, param_dtype=dtype, rngs=nnx.Rngs(0)))

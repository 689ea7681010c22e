"""VGG16's features, the LPIPS distance on them, and the file that keeps their weights."""

import dataclasses
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Float32

from aura_jax.checkpoint.loading import NOT_FINITE
from aura_jax.checkpoint.names import Shape
from aura_jax.checkpoint.tensors import (
    FLOAT_TYPES,
    StoredCheckpoint,
    StoredTensor,
    is_pickle,
    open_safetensors,
)
from aura_jax.checkpoint.validation import dotted, parameters
from aura_jax.errors import ArrayError, CheckpointError
from aura_jax.model.layers import LayerOptions, conv3x3

STAGES = (  # channels before the first convolution of a stage and after each one
    (3, 64, 64),
    (64, 128, 128),
    (128, 256, 256, 256),
    (256, 512, 512, 512),
    (512, 512, 512, 512),
)
# ImageNet's mean and deviation of each color, for images in [-1, 1].
SHIFT = np.array((-0.030, -0.088, -0.188), np.float32).reshape(1, 1, 1, 3)
SCALE = np.array((0.458, 0.448, 0.450), np.float32).reshape(1, 1, 1, 3)
UNIT_EPSILON = 1e-10


class VGG16(nnx.Module):
    """The 13 convolutions of VGG16 (Simonyan & Zisserman 2015), each followed by a relu.

    Takes images [B, H, W, 3] in [-1, 1], which it normalizes as (x - SHIFT) / SCALE, and gives the
    last activation of every stage: relu1_2, relu2_2, relu3_3, relu4_3, relu5_3, each of half the
    size (rounded down) of the one before.
    """

    def __init__(self, **options: Unpack[LayerOptions]):
        self.stages = nnx.List(
            nnx.List(conv3x3(cin, cout, **options) for cin, cout in pairwise(widths))
            for widths in STAGES
        )

    def first(self, stages: int) -> "VGG16":
        """A copy that ends after so many stages and shares no memory with this network."""
        copy = jax.tree.map(jnp.copy, self)
        del copy.stages[stages:]
        return copy

    def __call__(self, images: Float[Array, "b h w 3"]) -> list[Float[Array, "b _ _ _"]]:
        """One activation [B, H / 2ⁱ, W / 2ⁱ, C] for each stage.

        Raises:
            ArrayError: if the images are too small for a pixel to be left.
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
                kernel_init=nnx.initializers.uniform(1.0),  # a weight below 0 is no distance
                dtype=jnp.float32,  # as the squares of small differences are
                param_dtype=options["param_dtype"],
                rngs=options["rngs"],
            )
            for widths in STAGES
        )

    def __call__(
        self, x: Float[Array, "b h w 3"], y: Float[Array, "b h w 3"]
    ) -> Float32[Array, " b"]:
        """The distance, 0 or more, of each image of x from that of y; both in [-1, 1].

        Raises:
            ArrayError: if a side has less than 16 pixels.
        """
        layers = zip(self.heads, self.vgg(x), self.vgg(y), strict=True)
        terms = [
            head(jnp.square(_unit(a) - _unit(b))).mean(axis=(1, 2, 3)) for head, a, b in layers
        ]
        return jnp.stack(terms).sum(axis=0)


def _unit(features: Float[Array, "b h w c"]) -> Float32[Array, "b h w c"]:
    """Each pixel's channels f as f / (‖f‖₂ + 1e-10)."""
    features = features.astype(jnp.float32)
    power = jnp.square(features).sum(axis=-1, keepdims=True)
    # The slope of a root is infinite at 0, and times the slope of the square it is NaN. So pixels
    # without any feature, which dark and plain images have, must not get into the root at all.
    silent = power == 0
    norm = jnp.where(silent, 0, jnp.sqrt(jnp.where(silent, 1, power)))
    return features / (norm + UNIT_EPSILON)


@dataclasses.dataclass(frozen=True)
class Perceptual:
    """The networks of a file of perceptual weights; `lpips` is None if it holds VGG16 alone."""

    vgg: VGG16
    lpips: LPIPS | None


def load_perceptual(path: str | Path) -> Perceptual:
    """Loads what `python -m convert.perceptual` writes.

    Parameters are kept and computed with in float32: VGG16 is a small part of a training step.

    Raises:
        CheckpointError: if the file cannot be read, or its tensors are not exactly those of VGG16,
            or of VGG16 and the LPIPS heads; every missing, unexpected, misshaped or non-finite one
            is named.
    """
    stored = _open(Path(path))
    heads = any(name.startswith("heads.") for name in stored.tensors)
    graph, state = blueprint(heads=heads)
    arrays = read_exactly(stored, shapes_of(state), "what `python -m convert.perceptual` writes")
    filled = [
        (at, nnx.Param(jnp.asarray(arrays[dotted(at)]))) for at, _ in nnx.to_flat_state(state)
    ]
    networks = nnx.merge(graph, nnx.from_flat_state(filled))
    return Perceptual(networks.vgg, networks if heads else None)


def blueprint(*, heads: bool) -> tuple[nnx.GraphDef[Any], nnx.State]:
    """The networks of a file with or without LPIPS heads, abstract: nothing is initialized."""

    def build() -> nnx.Module:
        options = LayerOptions(dtype=jnp.float32, param_dtype=jnp.float32, rngs=nnx.Rngs(0))
        return LPIPS(**options) if heads else nnx.Dict(vgg=VGG16(**options))

    return nnx.split(nnx.eval_shape(build))


def shapes_of(state: nnx.State) -> dict[str, Shape]:
    """The shapes of parameters by their names in a file, such as vgg.stages.0.0.kernel."""
    return {name: tuple(param.shape) for name, param in parameters(state).items()}


def read_exactly(
    stored: StoredCheckpoint, expected: Mapping[str, Shape], what: str
) -> dict[str, Float32[np.ndarray, "..."]]:
    """The tensors of a file that holds those expected and no others.

    Args:
        stored: the file.
        expected: names and shapes.
        what: what the file should be, for the message.

    Raises:
        CheckpointError: with a line for everything that is wrong with it.
    """
    problems = sorted(_problems(stored.tensors, expected))
    if problems:
        raise CheckpointError("\n  ".join((f"{stored.source}: not {what}", *problems)))
    return {name: stored.tensors[name].read().astype(np.float32) for name in expected}


def _problems(tensors: Mapping[str, StoredTensor], expected: Mapping[str, Shape]) -> Iterator[str]:
    for name in expected.keys() - tensors.keys():
        yield f"missing: {name} {expected[name]}"
    for name in tensors.keys() - expected.keys():
        yield f"unexpected: {name} {tensors[name].shape}"
    for name in tensors.keys() & expected.keys():
        tensor = tensors[name]
        if tensor.shape != expected[name]:
            yield f"misshaped: {name} is {tensor.shape}, expected {expected[name]}"
        if tensor.dtype not in FLOAT_TYPES:
            yield f"type: {name} is {tensor.dtype}, expected {', '.join(FLOAT_TYPES)}"
        elif not np.isfinite(tensor.read()).all():
            yield NOT_FINITE.format(name)


def _open(path: Path) -> StoredCheckpoint:
    try:
        return open_safetensors(path)
    except CheckpointError:
        if path.is_file() and is_pickle(path):
            raise CheckpointError(
                f"{path}: is a pickle. Convert it once, from a checkout of aura-jax: "
                f"python -m convert.perceptual {path} perceptual.safetensors"
            ) from None
        raise

"""The encoder and the decoder as chains of named stages, in NHWC."""

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Unpack

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from aura_jax.config import LATENT_LIMIT, AuraConfig
from aura_jax.model.frames import frame_average
from aura_jax.model.layers import (
    AttnBlock,
    Downsample,
    GroupNorm,
    LayerOptions,
    ResnetBlock,
    Upsample,
    conv3x3,
)
from aura_jax.symmetry import flip_images, flip_latents

Stage = tuple[str, Callable[[Array], Array]]


class Level(nnx.Module):
    """The residual blocks of one resolution, followed by its downsampler or upsampler, if any."""

    def __init__(
        self,
        cin: int,
        cout: int,
        num_blocks: int,
        *,
        downsample: bool = False,
        upsample: bool = False,
        **options: Unpack[LayerOptions],
    ):
        widths = (cin, *[cout] * num_blocks)
        self.block = nnx.List([ResnetBlock(a, b, **options) for a, b in pairwise(widths)])
        self.downsample = Downsample(cout, **options) if downsample else None
        self.upsample = Upsample(cout, **options) if upsample else None

    @property
    def stages(self) -> Iterator[Stage]:
        """The blocks and the resampler with their names."""
        for j, block in enumerate(self.block):
            yield f"block.{j}", block
        if self.downsample is not None:
            yield "downsample", self.downsample
        if self.upsample is not None:
            yield "upsample", self.upsample


class Middle(nnx.Module):
    """The blocks at the latent's resolution, with attention between all pixels."""

    def __init__(self, channels: int, **options: Unpack[LayerOptions]):
        self.block_1 = ResnetBlock(channels, channels, **options)
        self.attn_1 = AttnBlock(channels, **options)
        self.block_2 = ResnetBlock(channels, channels, **options)

    @property
    def stages(self) -> Iterator[Stage]:
        """The three blocks with their names."""
        yield from (("block_1", self.block_1), ("attn_1", self.attn_1), ("block_2", self.block_2))


class Chain(nnx.Module):
    """A network composed of named stages, each of which can be inspected.

    Attributes:
        averaged: whether the network is averaged over the flips: see `equivariant`.
    """

    norm_out: GroupNorm
    conv_out: nnx.Conv
    averaged: bool

    @property
    def stages(self) -> Iterator[Stage]:
        """Every stage in the order of execution, with its name in the reference.

        It is a property since `nnx.tabulate` calls all methods of modules inside jit.
        """
        raise NotImplementedError

    def head(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w cout"]:
        """Apply norm_out, swish and conv_out."""
        return self.conv_out(nnx.swish(self.norm_out(x)))

    def __call__(
        self, x: Float[Array, "b h w c"], *, remat: bool = False
    ) -> Float[Array, "b h2 w2 c2"]:
        """Apply all stages, one after the other, and average over the flips if `averaged`.

        Args:
            x: the first stage's input.
            remat: whether the backward pass recomputes the activations inside ResnetBlocks instead
                of keeping them: less memory, more time, the same numbers.
        """
        return self._averaged(x, remat) if self.averaged else self._applied(x, remat)

    def _applied(self, x: Array, remat: bool) -> Array:
        for _, stage in self.stages:
            recompute = remat and isinstance(stage, ResnetBlock)
            x = jax.checkpoint(stage)(x) if recompute else stage(x)
        return x

    def _averaged(self, x: Array, remat: bool) -> Array:
        raise NotImplementedError


class Encoder(Chain):
    """The map from images [B, H, W, in_channels] in [-1, 1] to latents [B, H/8, W/8, z_channels].

    The latents are not clamped.
    """

    def __init__(self, config: AuraConfig, **options: Unpack[LayerOptions]):
        widths, blocks = config.widths, config.num_res_blocks
        self.averaged = False
        self.conv_in = conv3x3(config.in_channels, config.ch, **options)
        self.down = nnx.List(
            [
                Level(cin, cout, blocks, downsample=i < len(widths) - 1, **options)
                for i, (cin, cout) in enumerate(pairwise((config.ch, *widths)))
            ]
        )
        self.mid = Middle(widths[-1], **options)
        self.norm_out = GroupNorm(widths[-1], **options)
        self.conv_out = conv3x3(widths[-1], config.z_channels, **options)

    @property
    def stages(self) -> Iterator[Stage]:
        """conv_in, the levels from fine to coarse, mid and conv_out."""
        yield "conv_in", self.conv_in
        for i, level in enumerate(self.down):
            yield from _named(f"down.{i}", level)
        yield from _named("mid", self.mid)
        yield "conv_out", self.head

    def _averaged(self, x: Array, remat: bool) -> Array:
        """Average the clamped latents of the flipped images, without pixels that fill no latent."""
        side = 2 ** (len(self.down) - 1)
        height, width = (side * (length // side) for length in x.shape[1:3])
        return frame_average(
            lambda frames: clamp_latents(self._applied(frames, remat)),
            x[:, :height, :width],
            flip_images,
            flip_latents,
        )


class Decoder(Chain):
    """The map from latents [B, h, w, z_channels] to images [B, 8h, 8w, out_channels].

    The images are about in [-1, 1], and not clamped.

    `up` is indexed by level, as in the reference, so it runs from its last element to its first.
    """

    def __init__(self, config: AuraConfig, **options: Unpack[LayerOptions]):
        widths, blocks = config.widths, config.num_res_blocks + 1
        self.averaged = False
        self.conv_in = conv3x3(config.z_channels, widths[-1], **options)
        self.mid = Middle(widths[-1], **options)
        self.up = nnx.List(
            [
                Level(cin, cout, blocks, upsample=i > 0, **options)
                for i, (cout, cin) in enumerate(pairwise((*widths, widths[-1])))
            ]
        )
        self.norm_out = GroupNorm(widths[0], **options)
        self.conv_out = conv3x3(widths[0], config.out_channels, **options)

    @property
    def stages(self) -> Iterator[Stage]:
        """conv_in, mid, the levels from coarse to fine and conv_out."""
        yield "conv_in", self.conv_in
        yield from _named("mid", self.mid)
        for i in reversed(range(len(self.up))):
            yield from _named(f"up.{i}", self.up[i])
        yield "conv_out", self.head

    def _averaged(self, x: Array, remat: bool) -> Array:
        return frame_average(
            lambda frames: self._applied(frames, remat), x, flip_latents, flip_images
        )


def _named(prefix: str, part: Level | Middle) -> Iterator[Stage]:
    for name, stage in part.stages:
        yield f"{prefix}.{name}", stage


def clamp_latents(z: Array) -> Array:
    """Clamp latents to ±8, as the model was trained."""
    return jnp.clip(z, -LATENT_LIMIT, LATENT_LIMIT)

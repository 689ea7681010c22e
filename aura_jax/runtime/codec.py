"""A model ready to run: its weights arranged for speed, and executables kept for each shape."""

from collections.abc import Callable, Iterable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, UInt8

from aura_jax.arrays import check_array
from aura_jax.dtypes import FLOATS, as_dtype
from aura_jax.errors import ArrayError
from aura_jax.images.transforms import to_float, to_uint8
from aura_jax.model.autoencoder import AuraEquiVAE, Chain, clamp_latents
from aura_jax.runtime.program import CompilerOptions, Program, compiler_options
from aura_jax.runtime.rewrite import Precision, rewritten

type Images = Float[Array, "b h w c"] | UInt8[Array, "b h w c"]


class Codec:
    """Encodes and decodes with one model, as fast as it goes.

    It holds weights of its own, made once from the model's: in the compute type, upsampling folded
    into its convolutions, and with "fast" the kernels of Winograd's convolutions, which are four
    times as large. Changing the model later does not change it. It compiles once for each shape;
    `warmup` does so ahead of time.

        codec = aura_jax.Codec(aura_jax.load("small"))
        z = codec.encode(images)
        pictures = codec.decode(z, as_uint8=True)

    Args:
        vae: the model, as `aura_jax.load` gives it.
        dtype: the type to compute in, and of the results; by default the model's.
        precision: "highest" keeps float32 to the parity of the plain model. "fast" allows float32
            convolutions whose rounding is larger, up to 2e-5 of the result; it changes nothing in
            bfloat16.

    Raises:
        AuraError: if the type or the precision is unknown.
    """

    def __init__(
        self,
        vae: AuraEquiVAE,
        *,
        dtype: DTypeLike | None = None,
        precision: Precision = "highest",
    ):
        self.config = vae.config
        compute = vae.encoder.conv_in.dtype if dtype is None else dtype
        assert compute is not None, "AuraEquiVAE gives its layers a type"
        self.dtype = as_dtype(compute)
        model = rewritten(vae, self.dtype, precision)
        floats, levels = np.dtype(np.float32), np.dtype(np.uint8)
        options = compiler_options(self.dtype)
        self._encoder = _program("images", model.encoder, clamp_latents, floats, options)
        self._decoder = _program("latents", model.decoder, _as_it_is, self.dtype, options)
        self._from_levels = Program("images", lambda _, x: to_float(x), [], levels)
        self._to_levels = Program("images", lambda _, x: to_uint8(x), [], self.dtype)
        self._declared: set[tuple[int, int, int]] = set()
        self._guarded = False

    def encode(self, images: Array | np.ndarray) -> Float[Array, "b h w z"]:
        """Images to latents [B, H/8, W/8, 16], clamped to ±8.

        Args:
            images: [B, H, W, 3], floats in [-1, 1], or uint8. Values are not looked at, unlike
                `aura_jax.encode`, since that would wait for them.

        Raises:
            ArrayError: if the layout, shape or type is wrong, or the memory too small; or if the
                shape is not compiled and `warmup` has forbidden others.
        """
        config = self.config
        dtypes = (*FLOATS, np.dtype(np.uint8))
        check_array(
            "images", images, config.in_channels, dtypes=dtypes, min_side=config.downsampling
        )
        is_8_bit = images.dtype == np.uint8
        batch, images = len(images), self._padded(images, 1)
        floats = self._run(self._from_levels, images) if is_8_bit else images
        return _first(self._run(self._encoder, floats), batch)

    def decode(self, latents: Array | np.ndarray, *, as_uint8: bool = False) -> Images:
        """Latents to images [B, 8h, 8w, 3], nominally in [-1, 1] but not clamped.

        Args:
            latents: [B, h, w, 16], floats.
            as_uint8: whether to give 8-bit levels instead, clamped and rounded on the device.

        Raises:
            ArrayError: as `encode`.
        """
        check_array("latents", latents, self.config.z_channels)
        batch, latents = len(latents), self._padded(latents, self.config.downsampling)
        images = self._run(self._decoder, latents)
        return _first(self._run(self._to_levels, images) if as_uint8 else images, batch)

    def warmup(
        self, shapes: Iterable[Sequence[int]], *, guard: bool = False, decode: bool = True
    ) -> None:
        """Compiles for images of these shapes and their latents, and runs each once.

        From then on a batch smaller than one of them, with images of the same size, is padded to it
        and cut back, so that the last batch of a data set compiles nothing.

        Args:
            shapes: of images, (B, H, W) or (B, H, W, 3).
            guard: whether to refuse all shapes that are not warmed up from now on.
            decode: whether latents of these images will be decoded too.

        Raises:
            ArrayError: if a shape is none of images, or the memory is too small.
        """
        self._guarded = False
        for shape in shapes:
            if len(shape) not in (3, 4):
                raise ArrayError(f"shape {tuple(shape)}: expected (batch, height, width)")
            images = np.zeros((*shape[:3], *(shape[3:] or (self.config.in_channels,))), np.uint8)
            declared = (shape[0], shape[1], shape[2])
            self._declared.add(declared)  # first, or it would be padded to a larger one
            try:
                latents = self.encode(images)
                jax.block_until_ready(self.decode(latents, as_uint8=True) if decode else latents)
            except ArrayError:
                self._declared.discard(declared)
                raise
        self._guarded = guard

    def _padded(self, x: Array | np.ndarray, scale: int) -> Array | np.ndarray:
        """The batch filled with zeros to the smallest one that was warmed up and holds it.

        `scale` is how many pixels of the image a side of one of x covers.
        """
        fitting = [
            batch
            for batch, height, width in self._declared
            if batch >= len(x) and (height // scale, width // scale) == x.shape[1:3]
        ]
        missing = min(fitting, default=len(x)) - len(x)
        if not missing:
            return x
        pad = np.pad if isinstance(x, np.ndarray) else jnp.pad
        return pad(x, ((0, missing), (0, 0), (0, 0), (0, 0)))

    def _run(self, program: Program, x: Array | np.ndarray) -> Array:
        if self._guarded and x.shape not in program.shapes:
            known = ", ".join(map(str, program.shapes))
            raise ArrayError(
                f"{program.name} of shape {x.shape}: would compile, and warmed up are {known}; "
                "add the shape to warmup, or warm up without the guard"
            )
        return program(x)


def _program(
    name: str,
    network: Chain,
    finish: Callable[[Array], Array],
    dtype: np.dtype,
    options: CompilerOptions | None,
) -> Program:
    graph, state = nnx.split(network)
    weights, structure = jax.tree.flatten(state)

    def run(weights: Sequence[Array], x: Array) -> Array:
        return finish(nnx.merge(graph, structure.unflatten(weights))(x))

    return Program(name, run, weights, dtype, options)


def _as_it_is(images: Array) -> Array:
    return images


def _first(x: Array, count: int) -> Array:
    return x if len(x) == count else x[:count]

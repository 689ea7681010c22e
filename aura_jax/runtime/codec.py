"""A model prepared for speed: rearranged weights, and one executable for each shape."""

import copy
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Sharding
from jax.typing import DTypeLike
from jaxtyping import Array, Float, UInt8

from aura_jax.dtypes import as_dtype
from aura_jax.errors import ArrayError
from aura_jax.model.autoencoder import AuraEquiVAE
from aura_jax.runtime.buckets import Buckets
from aura_jax.runtime.codec_programs import CodecPrograms, Settings
from aura_jax.runtime.executables import ExecutableFolder
from aura_jax.runtime.inputs import LEVELS, check_images, check_latents, check_list
from aura_jax.runtime.placement import Placement
from aura_jax.runtime.plan import Precision
from aura_jax.runtime.runner import Progress, Runner
from aura_jax.runtime.shapes import Shapes

type Images = Float[Array, "b h w c"] | UInt8[Array, "b h w c"]


class Codec:
    """Encode and decode with one model, faster than `aura_jax.encode` and `aura_jax.decode`.

    A codec derives its own weights from the model's once: in the compute dtype, and as the kernels
    that are fastest on its devices need them. Later changes to the model do not affect the codec.
    It compiles once for each shape; `warmup` does so ahead of time.

        codec = aura_jax.Codec(aura_jax.load("small"))
        z = codec.encode(images)
        decoded = codec.decode(z, as_uint8=True)

    On several devices a sharding splits the batch, or the rows of large images, or both:

        mesh = jax.make_mesh((jax.device_count(),), ("data",))
        codec = aura_jax.Codec(vae, sharding=NamedSharding(mesh, PartitionSpec("data")))

    Inside `jax.jit`, `jax.grad` and JAX's other transformations its methods are traced like any
    function of JAX. The weights become constants there: to train, or to keep a large model out of
    the executable, call `aura_jax.encode` with the model as an argument instead.

    Each size of images compiles a program. With buckets, images of any size run in the program of
    the smallest bucket that holds them, and give the same results as without:

        codec = aura_jax.Codec(vae, buckets=[(256, 256), (512, 512), (1024, 1024)])
        latents = codec.encode_many(images)

    A codec can be copied and pickled, with its weights and without its executables.

    Args:
        vae: the model, as `aura_jax.load` returns it.
        dtype: the dtype to compute in, and of the results; by default the model's.
        precision: "highest" is as accurate as `aura_jax.encode` and `aura_jax.decode`, which use
            JAX's precision of the same name. "fast" lets float32 round more: Winograd's
            convolutions on a CPU, up to 2e-5 of the result, and JAX's precision "high" elsewhere,
            which is TF32 on a GPU and three bfloat16 products on a TPU (1.6e-5 when emulated). It
            changes nothing in bfloat16.
        sharding: the sharding of images and latents, which may split the batch and the rows. Inputs
            of any kind are placed accordingly, and results keep it. By default the codec runs where
            the model's weights are.
        buckets: heights and widths of images that programs are compiled for, in multiples of 8. The
            results are cut to size on the host, so calls wait for them. They cannot be combined
            with a sharding of rows.
        executables: a folder that `save_executables` wrote. Executables that are found there are
            not compiled. Loading them runs code from the folder, so it must be this user's alone.

    Raises:
        AuraError: if the dtype or the precision is unknown, the sharding splits columns or
            channels, others have access to the folder of executables, a bucket's sides are not
            multiples of 8, or buckets are combined with a sharding of rows.
    """

    def __init__(
        self,
        vae: AuraEquiVAE,
        *,
        dtype: DTypeLike | None = None,
        precision: Precision = "highest",
        sharding: Sharding | None = None,
        buckets: Iterable[Sequence[int]] | None = None,
        executables: str | Path | None = None,
    ):
        compute = vae.encoder.conv_in.dtype if dtype is None else dtype
        assert compute is not None, "AuraEquiVAE gives its layers a dtype"
        self.config, self.dtype = vae.config, as_dtype(compute)
        self.precision: Precision = precision
        self._place = Placement.of(vae) if sharding is None else Placement(sharding)
        folder = None if executables is None else ExecutableFolder(executables)
        averaged = vae.encoder.averaged  # as `equivariant` sets it in both networks
        settings = Settings(
            self.config, averaged, self.dtype, precision, self._place, bucketed=buckets is not None
        )
        self._buckets = None if buckets is None else Buckets(buckets, self.config.downsampling)
        self._shapes = Shapes()
        self._programs = CodecPrograms.of(vae, settings, folder)

    def encode(self, images: Array | np.ndarray, *, check: bool = False) -> Float[Array, "b h w z"]:
        """Encode images to latents [B, H/8, W/8, 16], clamped to ±8.

        Sides that are not multiples of 8 lose their last pixels: see `aura_jax.encode`.

        Args:
            images: [B, H, W, 3], floats in [-1, 1], or uint8.
            check: whether to check the range of a jax array too, which waits for its values. That
                of a numpy array is always checked, before it is sent to a device. Inside another
                jit there are no values to check.

        Raises:
            ArrayError: if the layout, shape, dtype or range is wrong, the rows do not divide over
                the sharding, the device has too little memory, or `warmup(guard=True)` was called
                and the shape is not compiled.
        """
        check_images(images, self.config, self._place, wait=check)
        return self._runner.run(self._encoding(images.dtype), images, 1)

    def decode(
        self, latents: Array | np.ndarray, *, as_uint8: bool = False, check: bool = False
    ) -> Images:
        """Decode latents to images [B, 8h, 8w, 3], nominally in [-1, 1] but not clamped.

        Args:
            latents: [B, h, w, 16], floats.
            as_uint8: whether to return 8-bit levels, clamped and rounded on the device.
            check: whether to refuse NaN and infinity in a jax array too, which waits for its
                values. A numpy array is always checked.

        Raises:
            ArrayError: in the same cases as `encode`.
        """
        check_latents(latents, self.config, self._place, wait=check)
        return self._runner.run(self._decoding(as_uint8), latents, self.config.downsampling)

    def encode_many(
        self, images: Sequence[Array | np.ndarray], *, progress: Progress = iter
    ) -> list[np.ndarray]:
        """Encode a list of images of different sizes, each as `encode` does, in batches by bucket.

        Batches are as large as the largest that `warmup` declared for a bucket, or single images.

        Args:
            images: arrays [H, W, 3] of one dtype.
            progress: wraps the batches as they are run, such as `tqdm.tqdm`.

        Returns:
            Latents [H/8, W/8, 16] in the order of the images.

        Raises:
            ArrayError: as `encode`, and if the images have several sizes or dtypes and the codec
                has no buckets.
        """
        check_list("images", images)
        for image in images:
            check_images(image[None], self.config, self._place, wait=False)
        return self._runner.run_many("images", images, 1, self._encoding, progress)

    def decode_many(
        self,
        latents: Sequence[Array | np.ndarray],
        *,
        as_uint8: bool = False,
        progress: Progress = iter,
    ) -> list[np.ndarray]:
        """Decode a list of latents of different sizes, each as `decode` does, in batches by bucket.

        Args:
            latents: arrays [h, w, 16] of one dtype.
            as_uint8: as for `decode`.
            progress: as for `encode_many`.

        Returns:
            Images [8h, 8w, 3] in the order of the latents.

        Raises:
            ArrayError: as `encode_many`.
        """
        check_list("latents", latents)
        for each in latents:
            check_latents(each[None], self.config, self._place, wait=False)
        names = self._decoding(as_uint8)
        return self._runner.run_many(
            "latents", latents, self.config.downsampling, lambda _: names, progress
        )

    def warmup(
        self,
        shapes: Iterable[Sequence[int]] | None = None,
        *,
        guard: bool = False,
        decode: bool = True,
    ) -> None:
        """Compile for images of these shapes and their latents, and run each once.

        From then on a smaller batch of images of the same size is padded to one of these shapes and
        cut back, so that the last batch of a data set compiles nothing.

        Args:
            shapes: shapes of images, (B, H, W) or (B, H, W, 3), whose sizes are buckets if the
                codec has any; by default one image of each bucket.
            guard: whether to refuse all other shapes from now on.
            decode: whether latents of these images will be decoded too.

        Raises:
            ArrayError: if a shape is not that of images, or the device has too little memory.
        """
        self._shapes.guarded = False
        if shapes is None:
            if self._buckets is None:
                raise ArrayError("warmup: give the shapes of images, such as [(1, 256, 256)]")
            shapes = [(1, *size) for size in self._buckets.sizes]
        for shape in shapes:
            if len(shape) not in (3, 4):
                raise ArrayError(f"shape {tuple(shape)}: expected (batch, height, width)")
            images = np.zeros((*shape[:3], *(shape[3:] or (self.config.in_channels,))), np.uint8)
            height, width = self._runner.bucket("images", tuple(shape[1:3]), 1)
            with self._shapes.declaring((self._place.whole_batch(shape[0]), height, width)):
                latents = self.encode(images)
                jax.block_until_ready(self.decode(latents, as_uint8=True) if decode else latents)
        self._shapes.guarded = guard

    def save_executables(self, folder: str | Path) -> None:
        """Write all executables that this codec has compiled, for `Codec(..., executables=folder)`.

        They serve codecs of the same config and settings, with any weights, on devices of the same
        kind and numbers, and with the same versions of aura_jax, JAX and its plugins. Others
        compile.

        Args:
            folder: made for this user alone if it does not exist.

        Raises:
            AuraError: if the folder cannot be written, others have access to it, or JAX cannot
                store an executable. That is so on a CPU for those from JAX's compilation cache,
                which already saves their compilation.
        """
        self._programs.save_executables(ExecutableFolder(folder))

    def __repr__(self) -> str:
        """Describe the codec in one line."""
        shapes = {name: program.shapes for name, program in self._programs.items()}
        compiled = ", ".join(map(str, (*shapes["encode"], *shapes["decode"]))) or "none"
        averaged = "equivariant, " if self._programs.settings.averaged else ""
        return (
            f"Codec({averaged}{self.config}, {self.dtype}, {self.precision!r}, on {self._place}, "
            f"compiled for {compiled})"
        )

    def __copy__(self) -> "Codec":
        """Share the weights and the executables, which never change."""
        other = object.__new__(type(self))
        vars(other).update(vars(self), _shapes=copy.deepcopy(self._shapes))
        return other

    def __deepcopy__(self, memo: dict[int, Any]) -> "Codec":
        """Copy as `copy.copy` does."""
        return copy.copy(self)

    @property
    def _runner(self) -> Runner:
        return Runner(self._programs, self._place, self._shapes, self._buckets)

    def _encoding(self, dtype: np.dtype) -> Sequence[str]:
        return ("from_levels", "encode") if dtype == LEVELS else ("encode",)

    def _decoding(self, as_uint8: bool) -> Sequence[str]:
        return ("decode", "to_levels") if as_uint8 else ("decode",)

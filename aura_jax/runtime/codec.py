"""A model prepared for speed: rearranged weights, and one executable for each shape."""

from collections.abc import Iterable, Sequence

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax.sharding import Sharding
from jax.typing import DTypeLike
from jaxtyping import Array, Float, UInt8

from aura_jax.arrays import check_array
from aura_jax.dtypes import FLOATS, as_dtype
from aura_jax.errors import ArrayError
from aura_jax.images.transforms import to_float, to_uint8
from aura_jax.model.autoencoder import AuraEquiVAE
from aura_jax.runtime.functional import check_finite, check_range
from aura_jax.runtime.networks import PARTS, network_program
from aura_jax.runtime.placement import Placement
from aura_jax.runtime.plan import Precision, plan_for
from aura_jax.runtime.program import Program
from aura_jax.runtime.rewrite import rewritten

LEVELS = np.dtype(np.uint8)

type Images = Float[Array, "b h w c"] | UInt8[Array, "b h w c"]


class Codec:
    """Encode and decode with one model, faster than `aura_jax.encode` and `aura_jax.decode`.

    A codec derives its own weights from the model's once: in the compute dtype, and as the kernels
    that are fastest on its devices need them; see `aura_jax.runtime.plan`. Later changes to the
    model do not affect the codec. It compiles once for each shape; `warmup` does so ahead of time.

        codec = aura_jax.Codec(aura_jax.load("small"))
        z = codec.encode(images)
        decoded = codec.decode(z, as_uint8=True)

    On several devices a sharding splits the batch, or the rows of large images, or both:

        mesh = jax.make_mesh((jax.device_count(),), ("data",))
        codec = aura_jax.Codec(vae, sharding=NamedSharding(mesh, PartitionSpec("data")))

    Inside `jax.jit`, `jax.grad` and JAX's other transformations a codec is traced like any function
    of JAX. Its weights become constants there, so `aura_jax.encode` is better for large models.

    Args:
        vae: the model, as `aura_jax.load` returns it.
        dtype: the dtype to compute in, and of the results; by default the model's.
        precision: "highest" is as accurate as `aura_jax.encode` and `aura_jax.decode`, which use
            JAX's precision of the same name. "fast" lets float32 round more: Winograd's
            convolutions on a CPU, up to 2e-5 of the result, and JAX's precision "high" elsewhere,
            which is TF32 on a GPU and three bfloat16 products on a TPU. It changes nothing in
            bfloat16.
        sharding: the sharding of images and latents, which may split the batch and the rows. Inputs
            of any kind are placed accordingly, and results keep it. By default the codec runs where
            the model's weights are.

    Raises:
        AuraError: if the dtype or the precision is unknown, or the sharding splits columns or
            channels.
    """

    def __init__(
        self,
        vae: AuraEquiVAE,
        *,
        dtype: DTypeLike | None = None,
        precision: Precision = "highest",
        sharding: Sharding | None = None,
    ):
        self.config = vae.config
        compute = vae.encoder.conv_in.dtype if dtype is None else dtype
        assert compute is not None, "AuraEquiVAE gives its layers a dtype"
        self.dtype = as_dtype(compute)
        place = self._place = Placement.of(vae) if sharding is None else Placement(sharding)
        plan = plan_for(place, self.dtype, precision)
        model = rewritten(place.local(vae), self.dtype, plan)
        self._encoder, self._decoder = (
            network_program(part, model, self.dtype, plan, place) for part in PARTS
        )
        self._from_levels = Program("images", lambda _, x: to_float(x), [], LEVELS, place)
        self._to_levels = Program("images", lambda _, x: to_uint8(x), [], self.dtype, place)
        self._declared: set[tuple[int, int, int]] = set()
        self._guarded = False

    def encode(self, images: Array | np.ndarray, *, check: bool = False) -> Float[Array, "b h w z"]:
        """Encode images to latents [B, H/8, W/8, 16], clamped to ±8.

        Sides that are not multiples of 8 lose their last pixels: see `aura_jax.encode`.

        Args:
            images: [B, H, W, 3], floats in [-1, 1], or uint8.
            check: whether to check the range of a jax array too, which waits for its values. That
                of a numpy array is always checked, before it is sent to a device.

        Raises:
            ArrayError: if the layout, shape, dtype or range is wrong, the rows do not divide over
                the sharding, the device has too little memory, or `warmup(guard=True)` was called
                and the shape is not compiled.
        """
        config = self.config
        side = config.downsampling
        check_array("images", images, config.in_channels, dtypes=(*FLOATS, LEVELS), min_side=side)
        self._place.check_rows("images", images.shape, side)
        is_8_bit = images.dtype == LEVELS
        if not is_8_bit and (check or isinstance(images, np.ndarray)):
            check_range(images)
        batch, images = len(images), self._padded(images, 1)
        floats = self._run(self._from_levels, images) if is_8_bit else images
        return self._place.first(self._run(self._encoder, floats), batch)

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
        check_array("latents", latents, self.config.z_channels)
        self._place.check_rows("latents", latents.shape, 1)
        if check or isinstance(latents, np.ndarray):
            check_finite(latents)
        batch, latents = len(latents), self._padded(latents, self.config.downsampling)
        images = self._run(self._decoder, latents)
        return self._place.first(self._run(self._to_levels, images) if as_uint8 else images, batch)

    def warmup(
        self, shapes: Iterable[Sequence[int]], *, guard: bool = False, decode: bool = True
    ) -> None:
        """Compile for images of these shapes and their latents, and run each once.

        From then on a smaller batch of images of the same size is padded to one of these shapes and
        cut back, so that the last batch of a data set compiles nothing.

        Args:
            shapes: shapes of images, (B, H, W) or (B, H, W, 3).
            guard: whether to refuse all other shapes from now on.
            decode: whether latents of these images will be decoded too.

        Raises:
            ArrayError: if a shape is not that of images, or the device has too little memory.
        """
        self._guarded = False
        for shape in shapes:
            if len(shape) not in (3, 4):
                raise ArrayError(f"shape {tuple(shape)}: expected (batch, height, width)")
            images = np.zeros((*shape[:3], *(shape[3:] or (self.config.in_channels,))), np.uint8)
            declared = (self._place.whole_batch(shape[0]), shape[1], shape[2])
            self._declared.add(declared)  # before the call: it would pad to a larger one
            try:
                latents = self.encode(images)
                jax.block_until_ready(self.decode(latents, as_uint8=True) if decode else latents)
            except ArrayError:
                self._declared.discard(declared)
                raise
        self._guarded = guard

    def _padded(self, x: Array | np.ndarray, scale: int) -> Array | np.ndarray:
        """Pad a batch with zeros to a size that was warmed up, or that divides over the devices.

        Args:
            x: images or latents.
            scale: image pixels along each side of a pixel of x: 1 for images.
        """
        if isinstance(x, jax.core.Tracer):
            return x
        fitting = [
            batch
            for batch, height, width in self._declared
            if batch >= len(x) and (height // scale, width // scale) == x.shape[1:3]
        ]
        missing = min(fitting, default=self._place.whole_batch(len(x))) - len(x)
        if not missing:
            return x
        pad = np.pad if isinstance(x, np.ndarray) else jnp.pad
        return pad(x, ((0, missing), (0, 0), (0, 0), (0, 0)))

    def _run(self, program: Program, x: Array | np.ndarray) -> Array:
        is_traced = isinstance(x, jax.core.Tracer)
        if self._guarded and not is_traced and x.shape not in program.shapes:
            known = ", ".join(map(str, program.shapes))
            raise ArrayError(
                f"{program.name} of shape {x.shape}: would compile, but the guard of warmup allows "
                f"only {known}; warm up this shape too, or without the guard"
            )
        return program(x)

"""Measure how close a model's reconstructions are to their originals.

All measures compare 8-bit images, as files hold them: originals are rounded to 8 bits before they
are encoded, decoded images are clamped and rounded. So any program computes the same numbers from
the PNG files that `aura-jax evaluate` writes.
"""

import dataclasses
from collections.abc import Iterable, Sequence

import jax
import numpy as np
from jaxtyping import Array, Float

from aura_jax.arrays import AnyArray, check_array
from aura_jax.config import AuraConfig
from aura_jax.documents import average
from aura_jax.dtypes import FLOATS
from aura_jax.equivariance.measures import FLIPS
from aura_jax.errors import ArrayError, ImageError
from aura_jax.images.quality import psnr, ssim
from aura_jax.images.transforms import Pixels8, to_float, to_uint8
from aura_jax.latents.quantize import dequantize, quantize
from aura_jax.latents.spec import STORAGE_DTYPES
from aura_jax.model.autoencoder import AuraEquiVAE
from aura_jax.runtime.codec import Codec
from aura_jax.runtime.inputs import check_range
from aura_jax.symmetry import flip_images, flip_latents
from aura_jax.training.networks.lpips import LPIPS

SMALLEST = 16  # pixels of a side, for LPIPS; SSIM needs 11


@dataclasses.dataclass(frozen=True)
class Quality:
    """The closeness of an 8-bit image to its original.

    Attributes:
        psnr_db: see `aura_jax.images.psnr`; infinite if they are equal.
        ssim: see `aura_jax.images.ssim`.
        lpips: see `aura_jax.training.LPIPS`, 0 or more; None without that network.
    """

    psnr_db: float
    ssim: float
    lpips: float | None = None


@dataclasses.dataclass(frozen=True)
class Scores:
    """The measures of one image x, or their means over several images.

    Attributes:
        reconstruction: decode(encode(x)) against x.
        flips: decode(g·encode(x)) against g·x for each flip g, by its name "h", "v" or "hv"; empty
            if flips were not asked for.
        storage: decode(z') against x, where z' is encode(x) as a cache stores it, by the name of
            the storage dtype; empty if this was not asked for.
    """

    reconstruction: Quality
    flips: dict[str, Quality]
    storage: dict[str, Quality]


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The measures of a model on several images.

    Attributes:
        average: the means over the images, of decibels too.
        images: the measures of each image.
        bits_per_pixel: see `bits_per_pixel`.
    """

    average: Scores
    images: tuple[Scores, ...]
    bits_per_pixel: dict[str, float]


def evaluate(
    vae: AuraEquiVAE,
    images: Iterable[AnyArray],
    *,
    flips: bool = False,
    storage: bool = False,
    lpips: LPIPS | None = None,
) -> Evaluation:
    """Measure how well a model reconstructs images.

    Args:
        vae: the model, as `aura_jax.load` returns it. It computes in its own dtype; bfloat16
            rounds by 1e-2.
        images: a batch [B, H, W, 3], or several images [H, W, 3] of any sizes that are multiples of
            the model's downsampling: 8-bit levels, or floats in [-1, 1], which are rounded to 8
            bits. Each size compiles once.
        flips: whether to decode flipped latents too, three for each image.
        storage: whether to decode latents as a cache stores them too, two for each image.
        lpips: the network of LPIPS, as `aura_jax.training.load_perceptual` returns it.

    Raises:
        ArrayError: if an image has the wrong shape, dtype or range, or the device has too little
            memory for it.
        ImageError: if there are no images.
    """
    evaluator = Evaluator(vae, flips=flips, storage=storage, lpips=lpips)
    scores = tuple(evaluator(image)[0] for image in images)
    return Evaluation(mean(scores), scores, bits_per_pixel(vae.config))


def mean(scores: Sequence[Scores]) -> Scores:
    """Average the measures of images that were measured with the same options.

    Raises:
        ImageError: if there are none.
    """
    if not scores:
        raise ImageError("no images to evaluate")
    means = average([dataclasses.asdict(each) for each in scores])
    return Scores(
        Quality(**means["reconstruction"]),
        *({name: Quality(**q) for name, q in means[key].items()} for key in ("flips", "storage")),
    )


def bits_per_pixel(config: AuraConfig) -> dict[str, float]:
    """Return the size of latents in bits for each image pixel, for each storage dtype of a cache.

    Only the numbers of latents count, not the keys and labels that a cache stores beside them. An
    8-bit RGB image has 24 bits per pixel.
    """
    values = config.z_channels / config.downsampling**2
    return {str(dtype): 8 * dtype.itemsize * values for dtype in STORAGE_DTYPES}


class Evaluator:
    """Measure a model on one image at a time, with one executable for each size.

    Args:
        vae: the model; see `evaluate` for this and the other arguments.
        flips: whether to decode flipped latents too.
        storage: whether to decode latents as a cache stores them too.
        lpips: the network of LPIPS.
    """

    def __init__(
        self,
        vae: AuraEquiVAE,
        *,
        flips: bool = False,
        storage: bool = False,
        lpips: LPIPS | None = None,
    ):
        self._codec = Codec(vae)
        self._flips = FLIPS if flips else {}
        self._dtypes = STORAGE_DTYPES if storage else ()
        self._lpips = lpips

    def __call__(self, image: AnyArray) -> tuple[Scores, Pixels8]:
        """Measure an image [H, W, 3], and return the measures and its reconstruction.

        Raises:
            ArrayError: as `evaluate`.
        """
        original = self._checked(image)
        z = np.asarray(self._codec.encode(original[None]))
        decoded = self._decode(z)
        reconstruction = self._quality(decoded, original)

        def stored(dtype: np.dtype) -> Quality:
            kept = dequantize(quantize(z, dtype)).astype(z.dtype)
            same = np.array_equal(kept, z)  # as in float32
            return reconstruction if same else self._quality(self._decode(kept), original)

        flips = {
            name: self._quality(self._decode(flip_latents(z, **g)), flip_images(original, **g))
            for name, g in self._flips.items()
        }
        storage = {str(dtype): stored(dtype) for dtype in self._dtypes}
        return Scores(reconstruction, flips, storage), decoded

    def _checked(self, image: AnyArray) -> Pixels8:
        """Check an image, and round it to 8 bits."""
        levels = np.dtype(np.uint8)
        axes, dtypes = "height, width", (*FLOATS, levels)
        check_array("image", image, 3, axes=axes, dtypes=dtypes, min_side=SMALLEST)
        multiple = self._codec.config.downsampling
        if any(side % multiple for side in image.shape[:2]):
            raise ArrayError(f"image of shape {image.shape}: expected multiples of {multiple}")
        if image.dtype == levels:
            return np.asarray(image)
        check_range(image)
        return to_uint8(np.asarray(image))

    def _decode(self, latent: Float[np.ndarray, "1 h w z"]) -> Pixels8:
        return np.asarray(self._codec.decode(latent, as_uint8=True))[0]

    def _quality(self, image: Pixels8, original: Pixels8) -> Quality:
        perceived = None
        if self._lpips is not None:
            perceived = float(
                _distance(self._lpips, to_float(image[None]), to_float(original[None]))[0]
            )
        return Quality(psnr(image, original), ssim(image, original), perceived)


@jax.jit
def _distance(network: LPIPS, x: Array, y: Array) -> Array:
    with jax.default_matmul_precision("highest"):
        return network(x, y)

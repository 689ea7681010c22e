"""Measure what a model card says: the quality of reconstructions and of flips."""

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path

import jax
import numpy as np
from flax import nnx

from aura_jax.arrays import AnyArray
from aura_jax.dtypes import FLOAT32
from aura_jax.equivariance.measures import FLIPS
from aura_jax.equivariance.metrics import image_distance
from aura_jax.errors import counted
from aura_jax.images.batches import as_paths, read_batches
from aura_jax.images.quality import ssim
from aura_jax.images.readers import PHOTOGRAPH
from aura_jax.images.transforms import Pixels
from aura_jax.model.autoencoder import AuraEquiVAE
from aura_jax.model.parameters import blueprint, merge, split
from aura_jax.runtime.functional import decode, encode
from aura_jax.symmetry import flip_images, flip_latents

BUNDLED_NAME = (
    "the photograph that comes with aura-jax (Chelsea the cat by Stéfan van der Walt, CC0)"
)
LATENT_SIDE = 32  # of the latents; the published model's images then have 256 x 256 pixels

type Places = str | Path | Iterable[str | Path]


@dataclasses.dataclass(frozen=True)
class Quality:
    """The quality of a model on some photographs, on average.

    Attributes:
        images: the photographs, in words.
        size: the side in pixels of the centered squares that were measured.
        psnr: of decode(encode(x)) against x, in decibels.
        ssim: the structural similarity of the same.
        flips: for each flip g, by its name, the PSNR in decibels of decode(g·z) against
            g·decode(z); infinite if they are equal.
        flip_error: the largest relative L2 error of decode(g·z).
    """

    images: str
    size: int
    psnr: float
    ssim: float
    flips: Mapping[str, float]
    flip_error: float


def measure_quality(vae: AuraEquiVAE, photographs: Places | None) -> Quality | None:
    """Measure a model in float32, on centered squares whose latents have 32 x 32 pixels.

    Args:
        vae: the model.
        photographs: folders, tars and image files, as `aura_jax.images.read_batches` takes them;
            None for the photograph that comes with the package.

    Returns:
        The measures; None if `photographs` is empty.

    Raises:
        ImageError: if a photograph cannot be found or read.
        ConfigError: if the model's images are not RGB.
    """
    places = [PHOTOGRAPH] if photographs is None else as_paths(photographs)
    if not places:
        return None
    vae.config.check_rgb("photographs")
    size = LATENT_SIDE * vae.config.downsampling
    # Rounding to bfloat16 would hide whether flips are exact.
    model = merge(nnx.graphdef(blueprint(vae.config, FLOAT32, FLOAT32)), split(vae)[1])
    rows = [_measure(model, images[0]) for images, _ in read_batches(places, 1, size)]
    psnr, ssim, _, *flips = np.mean(rows, axis=0)
    return Quality(
        images=BUNDLED_NAME if photographs is None else counted(len(rows), "photograph"),
        size=size,
        psnr=float(psnr),
        ssim=float(ssim),
        flips=dict(zip(FLIPS, map(float, flips), strict=True)),
        flip_error=max(row[2] for row in rows),
    )


@jax.default_matmul_precision("highest")
def _measure(vae: AuraEquiVAE, pixels: Pixels) -> list[float]:
    """Return PSNR, SSIM, the largest error of a flip, and the PSNR of each flip."""
    z = encode(vae, pixels[None])
    image = _decoded(vae, z)
    pairs = [(_decoded(vae, flip_latents(z, **g)), flip_images(image, **g)) for g in FLIPS.values()]
    found = [image_distance(*pair) for pair in pairs]
    return [
        image_distance(image, pixels).psnr_db,
        ssim(image, pixels),
        max(each.relative_l2 for each in found),
        *(each.psnr_db for each in found),
    ]


def _decoded(vae: AuraEquiVAE, latents: AnyArray) -> Pixels:
    return np.asarray(decode(vae, latents)[0], np.float32).clip(-1, 1)

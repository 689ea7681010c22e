"""Measure how a model treats one photograph and its flips.

For a flip g, a photograph x and its latent z = encode(x), the following pairs are compared:

    decoder       decode(g·z)   with   g·decode(z)
    encoder       encode(g·x)   with   g·z              not trained by the published recipe
    round trip    decode(g·z)   with   g·x

As a control, the same is measured with unsigned flips of the latent, which reverse the axis but
negate no channel. Decoded images are clamped to [-1, 1] and not rounded to 8 bits. The matmul
precision is "highest", so that the rounding of TF32 on a GPU is not measured as an error.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from aura_jax import symmetry
from aura_jax.equivariance.metrics import (
    Distance,
    LatentDistance,
    border_and_interior,
    image_distance,
    latent_distance,
)
from aura_jax.equivariance.sign_rule import correlation_map
from aura_jax.images.quality import ssim
from aura_jax.images.transforms import Pixels
from aura_jax.model.autoencoder import AuraEquiVAE
from aura_jax.noise import perturb
from aura_jax.runtime.functional import decode, encode
from aura_jax.symmetry import Flip, flip_images, flip_latents

SIGMAS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)

type LatentPixels = Float[np.ndarray, "h w z"]

FLIPS: dict[str, Flip] = {name: flip for name, flip in symmetry.FLIPS.items() if name != "none"}


@dataclasses.dataclass(frozen=True)
class Reconstruction:
    """The distance of decode(encode(x)) from x.

    Attributes:
        psnr_db: see `Distance`.
        relative_l2: see `Distance`.
        ssim: structural similarity of the images in [0, 1]; 1 if they are equal.
    """

    psnr_db: float
    relative_l2: float
    ssim: float


@dataclasses.dataclass(frozen=True)
class FlipErrors:
    """The errors of one flip.

    Attributes:
        decoder: the distance of decode(g·z) from g·decode(z).
        border: the same distance in the outermost 16 pixels.
        interior: the same distance in the other pixels.
        round_trip: the distance of decode(g·z) from g·x.
        encoder: the distance of encode(g·x) from g·z.
    """

    decoder: Distance
    border: Distance
    interior: Distance
    round_trip: Distance
    encoder: LatentDistance


@dataclasses.dataclass(frozen=True)
class Measures:
    """The measures of one photograph.

    Attributes:
        reconstruction: the error without a flip.
        signed: the errors of each flip by `flip_latents`, by its name.
        unsigned: the errors of each flip without signs, by its name, as the control.
        noise: PSNR in decibels of the reconstruction from a noisy latent, for each of SIGMAS:
            "multiplicative", z·(1 + σ·n), and "additive", z + σ·std(z)·n, where n ~ N(0, 1) is the
            same for both and for every σ, and std(z) is over all values of the latent.
        correlation: the correlation of encode(g·x) with the reversed z, by the flip's name; see
            `correlation_map`.
    """

    reconstruction: Reconstruction
    signed: dict[str, FlipErrors]
    unsigned: dict[str, FlipErrors]
    noise: dict[str, list[float]]
    correlation: dict[str, Float[np.ndarray, "z z"]]


@dataclasses.dataclass(frozen=True)
class _Photo:
    """A photograph x, its latent z = encode(x), and decode(z)."""

    pixels: Pixels
    latent: LatentPixels
    decoded: Pixels


@jax.default_matmul_precision("highest")
def measure(vae: AuraEquiVAE, pixels: Pixels, key: Array) -> Measures:
    """Measure a model on one photograph, in 4 runs of its encoder and 21 of its decoder.

    Args:
        vae: the model; its compute dtype should be float32, since bfloat16 rounds by 1e-2.
        pixels: [H, W, 3] in [-1, 1]; the sides are over 32 pixels and multiples of the model's
            downsampling.
        key: a jax.random key for the noise.
    """
    latent = _encode(vae, pixels)
    photo = _Photo(pixels, latent, _decode(vae, latent))
    encoded = {name: _encode(vae, flip_images(pixels, **g)) for name, g in FLIPS.items()}

    def errors(signed: bool) -> dict[str, FlipErrors]:
        return {g: _flip_errors(vae, photo, z, FLIPS[g], signed) for g, z in encoded.items()}

    return Measures(
        reconstruction=_reconstruction(photo),
        signed=errors(signed=True),
        unsigned=errors(signed=False),
        noise=noise_curves(vae, pixels, latent, key),
        correlation={
            name: correlation_map(z, flip_images(latent, **FLIPS[name]))
            for name, z in encoded.items()
        },
    )


def noise_curves(
    vae: AuraEquiVAE, pixels: Pixels, latent: LatentPixels, key: Array
) -> dict[str, list[float]]:
    """Measure how noise on a latent changes the decoded image.

    Args:
        vae: the model.
        pixels: [H, W, 3] in [-1, 1], to which decoded images are compared.
        latent: [h, w, C].
        key: a jax.random key, for the noise.

    Returns:
        PSNR in decibels for each of SIGMAS, as `Measures.noise`.
    """
    z = jnp.asarray(latent)
    n = jax.random.normal(key, z.shape, z.dtype)  # equal to the noise of `perturb` for this key
    noisy = {
        "multiplicative": [perturb(key, z, sigma) for sigma in SIGMAS],
        "additive": [z + sigma * z.std() * n for sigma in SIGMAS],
    }
    return {
        kind: [image_distance(_decode(vae, z), pixels).psnr_db for z in latents]
        for kind, latents in noisy.items()
    }


def _flip_errors(
    vae: AuraEquiVAE, photo: _Photo, encoded: LatentPixels, g: Flip, signed: bool
) -> FlipErrors:
    latent = (flip_latents if signed else flip_images)(photo.latent, **g)
    image, expected = _decode(vae, latent), flip_images(photo.decoded, **g)
    border, interior = border_and_interior(image, expected)
    return FlipErrors(
        decoder=image_distance(image, expected),
        border=border,
        interior=interior,
        round_trip=image_distance(image, flip_images(photo.pixels, **g)),
        encoder=latent_distance(encoded, latent),
    )


def _reconstruction(photo: _Photo) -> Reconstruction:
    distance = image_distance(photo.decoded, photo.pixels)
    similarity = ssim(photo.decoded, photo.pixels)
    return Reconstruction(distance.psnr_db, distance.relative_l2, similarity)


def _encode(vae: AuraEquiVAE, pixels: Pixels) -> LatentPixels:
    return np.asarray(encode(vae, pixels[None])[0])


def _decode(vae: AuraEquiVAE, latent: Array | LatentPixels) -> Pixels:
    return np.asarray(decode(vae, latent[None])[0]).clip(-1, 1)

"""A photograph of any size through the model: padded on the way in, cut out on the way back."""

import dataclasses

import numpy as np
from jax.typing import DTypeLike

from aura_jax.autoencoder import AuraEquiVAE
from aura_jax.checkpoint import load
from aura_jax.config import AuraConfig
from aura_jax.errors import AuraError
from aura_jax.images import Pixels, Pixels8, pad_photo, psnr, to_8_bit
from aura_jax.inference import decode, encode
from aura_jax.latent_file import Latent
from aura_jax.symmetry import flip_images

FLIPS = {"none": (False, False), "h": (True, False), "v": (False, True), "hv": (True, True)}


@dataclasses.dataclass(frozen=True)
class Reconstruction:
    """A decoded picture, and its PSNR in decibels against the photograph flipped alike."""

    picture: Pixels8
    psnr: float


def load_rgb(
    weights: str, *, config: AuraConfig | None = None, dtype: DTypeLike | None = None
) -> AuraEquiVAE:
    """Loads a model for photographs, which are RGB; see `aura_jax.load`.

    Raises:
        AuraError: if it is one for other images.
    """
    vae = load(weights, config=config, dtype=dtype)
    if (vae.config.in_channels, vae.config.out_channels) != (3, 3):
        raise AuraError(f"{weights}: not a model of RGB pictures: {vae.config}")
    return vae


def encode_photo(vae: AuraEquiVAE, pixels: Pixels) -> Latent:
    """The latent of a photograph [H, W, 3] in [-1, 1], padded at the right and bottom edges.

    Raises:
        ImageError: if a side is shorter than the model's downsampling.
    """
    padded = pad_photo(pixels, vae.config.downsampling)
    values = np.asarray(encode(vae, padded[None])[0])
    return Latent(values, (0, 0, pixels.shape[1], pixels.shape[0]))


def decode_photo(vae: AuraEquiVAE, latent: Latent) -> Pixels8:
    """The photograph of a latent, without the padding."""
    return to_8_bit(latent.cut(np.asarray(decode(vae, latent.values[None])[0])))


def reconstructions(vae: AuraEquiVAE, pixels: Pixels) -> dict[str, Reconstruction]:
    """What the model gives back for a photograph, unflipped and flipped in latent space.

    Returns:
        For none, h, v and hv: decode(flip_latents(encode(photo))), held against the photograph
        flipped alike.
    """
    original, latent = to_8_bit(pixels), encode_photo(vae, pixels)
    results = {}
    for name, (horizontal, vertical) in FLIPS.items():
        flipped = latent.flipped(
            horizontal=horizontal, vertical=vertical, scale=vae.config.downsampling
        )
        picture = decode_photo(vae, flipped)
        target = flip_images(original, horizontal=horizontal, vertical=vertical)
        results[name] = Reconstruction(picture, psnr(picture, target))
    return results

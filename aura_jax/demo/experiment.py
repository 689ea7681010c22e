"""Flip a photograph's latent with and without signs, and decode both."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from aura_jax.images.decode import Note
from aura_jax.images.io import decode_8_bit
from aura_jax.images.left_out import without_ending
from aura_jax.images.options import Decoding
from aura_jax.images.readers import ImageFile
from aura_jax.images.transforms import Pixels8, square, to_float
from aura_jax.model.autoencoder import equivariant
from aura_jax.model.parameters import fingerprint
from aura_jax.noise import perturb
from aura_jax.photo_latents import (
    Latent,
    LatentFile,
    Reconstruction,
    decode_photo,
    encode_photo,
    load_rgb,
    psnr,
    write_latents,
)
from aura_jax.runtime.codec import Codec
from aura_jax.symmetry import Flip, flip_images

SEED = 0  # of the noise


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A model, and the fingerprint of its parameters for files of latents."""

    codec: Codec
    fingerprint: str


@dataclasses.dataclass(frozen=True)
class Photograph:
    """A square photograph, and the name of its file without folders."""

    file: str
    pixels: Pixels8

    @property
    def name(self) -> str:
        """The name of its latent: that of the file, without its ending."""
        return without_ending(self.file).strip("_") or "photograph"  # no tensor is "__metadata__"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """A flip of a photograph, and the same flip of its latent.

    Attributes:
        target: g·x, the flipped photograph.
        latent: g·z, the flipped latent, with noise.
        signed: decode(g·z).
        naive: the image decoded from the latent with reversed axes and unchanged signs.
    """

    target: Pixels8
    latent: Latent
    signed: Reconstruction
    naive: Reconstruction


def load_checkpoint(
    weights: str, dtype: DTypeLike | None = None, *, averaged: bool = False
) -> Checkpoint:
    """Load a checkpoint, and average it over the flips if asked for.

    Raises:
        AuraError: as `load_rgb`.
    """
    vae = load_rgb(weights, dtype=dtype)
    return Checkpoint(Codec(equivariant(vae) if averaged else vae), fingerprint(vae))


def read_photograph(path: Path, size: int, decoding: Decoding, note: Note) -> Photograph:
    """Read an image file as commands do, and scale its largest centered square to `size` pixels.

    Args:
        path: the file.
        size: the side of the square in pixels.
        decoding: the options.
        note: called with a sentence if the ICC profile cannot be applied and is ignored.

    Raises:
        ImageError: if the file cannot be decoded; the message starts with its name.
        OSError: if it cannot be read.
    """
    picture = decode_8_bit(ImageFile(path).read(), path.name, decoding, note)
    return Photograph(path.name, square(picture, size))


def encode_photograph(codec: Codec, photograph: Photograph) -> Latent:
    """Encode a photograph.

    Raises:
        AuraError: as `encode_photo`.
    """
    return encode_photo(codec, to_float(photograph.pixels))


def try_flip(codec: Codec, pixels: Pixels8, latent: Latent, flip: Flip, sigma: float) -> Outcome:
    """Add noise to a latent, flip it with and without signs, and decode both.

    Args:
        codec: the model that encoded the photograph.
        pixels: the photograph, [H, W, 3].
        latent: its latent.
        flip: the flip g.
        sigma: relative standard deviation of the noise, as in `aura_jax.perturb`. The seed is fixed
            and the noise comes before the flip, so a flip moves the same noise.

    Raises:
        AuraError: as `decode_photo`.
    """
    target = flip_images(pixels, **flip)
    values = np.asarray(perturb(jax.random.key(SEED), jnp.asarray(latent.values), sigma))
    signed = dataclasses.replace(latent, values=values).flipped(flip, codec.config.downsampling)
    naive = dataclasses.replace(signed, values=flip_images(values, **flip))

    def decoded(flipped: Latent) -> Reconstruction:
        image = decode_photo(codec, flipped)
        return Reconstruction(image, psnr(image, target))

    shown = decoded(signed)
    return Outcome(target, signed, shown, decoded(naive) if any(flip.values()) else shown)


def write_latent(folder: Path, name: str, latent: Latent, checkpoint: Checkpoint) -> Path:
    """Write NAME.safetensors as `aura-jax encode` does, and return its path.

    Raises:
        AuraError: if it cannot be written.
    """
    path = folder / f"{name}.safetensors"
    write_latents(path, LatentFile({name: latent}, checkpoint.codec.config, checkpoint.fingerprint))
    return path

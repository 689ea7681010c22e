"""One photograph in and out of the latent space, and the file that keeps its latent."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dm_pix
import numpy as np
from jax.typing import DTypeLike
from safetensors.numpy import save_file

from aura_jax.checkpoint.loading import load
from aura_jax.checkpoint.tensors import FLOAT_TYPES, StoredTensor, open_safetensors
from aura_jax.config import AuraConfig
from aura_jax.errors import CheckpointError
from aura_jax.files import replacing
from aura_jax.images.transforms import Pixels, Pixels8, pad, to_uint8
from aura_jax.model.autoencoder import AuraEquiVAE
from aura_jax.runtime.functional import decode, encode
from aura_jax.symmetry import FLIPS, Flip, flip_images, flip_latents

type Box = tuple[int, int, int, int]


@dataclasses.dataclass(frozen=True)
class Latent:
    """The latent [h, w, C] of a photograph, and the photograph's box in the decoded picture.

    The box is (left, top, right, bottom) in pixels; what is outside of it is padding.
    """

    values: np.ndarray
    box: Box

    def flipped(self, flip: Flip, scale: int) -> "Latent":
        """Return the latent of the flipped photograph.

        Args:
            flip: which axes to reverse.
            scale: pixels of the image a side of one latent pixel covers.
        """
        left, top, right, bottom = self.box
        height, width = (scale * side for side in self.values.shape[:2])
        if flip["horizontal"]:
            left, right = width - right, width - left
        if flip["vertical"]:
            top, bottom = height - bottom, height - top
        return Latent(flip_latents(self.values, **flip), (left, top, right, bottom))

    def cut(self, picture: np.ndarray) -> np.ndarray:
        """The photograph out of the decoded picture [8h, 8w, 3]."""
        left, top, right, bottom = self.box
        return picture[top:bottom, left:right]


def write_latents(path: Path, latents: Mapping[str, Latent], config: AuraConfig) -> None:
    """Writes latents by name, with their boxes and the config of the model that made them."""
    arrays = {name: np.ascontiguousarray(latent.values) for name, latent in latents.items()}
    boxes = {name: latent.box for name, latent in latents.items()}
    about = {"config": dataclasses.asdict(config), "boxes": boxes}
    with replacing(path) as temporary:  # one entry, as safetensors orders several at random
        save_file(arrays, temporary, {"latents": json.dumps(about)})


def read_latents(path: Path) -> tuple[dict[str, Latent], AuraConfig]:
    """The latents of a file by name, and the config of the model that made them.

    Raises:
        CheckpointError: if the file is not sound, or not one that `write_latents` wrote.
    """
    stored = open_safetensors(path)
    try:
        about = json.loads(stored.metadata["latents"])
        config = AuraConfig(**about["config"])
        latents = {
            name: Latent(_values(tensor, config), _box(about["boxes"][name], tensor, config))
            for name, tensor in stored.tensors.items()
        }
        if not latents:
            raise ValueError("it holds none")
    except (LookupError, TypeError, ValueError, ArithmeticError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: not latents as `aura-jax encode` writes them ({error})"
        ) from None
    return latents, config


def _values(tensor: StoredTensor, config: AuraConfig) -> np.ndarray:
    if len(tensor.shape) != 3 or tensor.shape[2] != config.z_channels:
        raise ValueError(f"shape {tensor.shape}, expected [height, width, {config.z_channels}]")
    if tensor.dtype not in FLOAT_TYPES:
        raise ValueError(f"{tensor.dtype} values, expected {', '.join(FLOAT_TYPES)}")
    values = tensor.read()
    if not np.isfinite(values).all():
        raise ValueError("NaN or infinite values")
    return values


def _box(box: Any, tensor: StoredTensor, config: AuraConfig) -> Box:
    left, top, right, bottom = box
    if not all(type(side) is int for side in box):
        raise ValueError(f"box {box}, expected integers")
    height, width = (config.downsampling * side for side in tensor.shape[:2])
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        raise ValueError(f"box {box} does not lie in a picture of {width} x {height}")
    return left, top, right, bottom


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
    vae.config.check_rgb(weights)
    return vae


def encode_photo(vae: AuraEquiVAE, pixels: Pixels) -> Latent:
    """The latent of a photograph [H, W, 3] in [-1, 1], padded at the right and bottom edges.

    Raises:
        ImageError: if a side is shorter than the model's downsampling.
    """
    padded = pad(pixels, vae.config.downsampling)
    values = np.asarray(encode(vae, padded[None])[0])
    return Latent(values, (0, 0, pixels.shape[1], pixels.shape[0]))


def decode_photo(vae: AuraEquiVAE, latent: Latent) -> Pixels8:
    """The photograph of a latent, without the padding."""
    return to_uint8(latent.cut(np.asarray(decode(vae, latent.values[None])[0])))


def reconstructions(vae: AuraEquiVAE, pixels: Pixels) -> dict[str, Reconstruction]:
    """What the model gives back for a photograph, unflipped and flipped in latent space.

    Returns:
        For none, h, v and hv: decode(flip_latents(encode(photo))), held against the photograph
        flipped alike.
    """
    original, latent = to_uint8(pixels), encode_photo(vae, pixels)
    results = {}
    for name, flip in FLIPS.items():
        picture = decode_photo(vae, latent.flipped(flip, vae.config.downsampling))
        results[name] = Reconstruction(picture, psnr(picture, flip_images(original, **flip)))
    return results


def psnr(a: Pixels8, b: Pixels8) -> float:
    """Peak signal-to-noise ratio of two 8-bit pictures, in decibels; infinite if they are equal."""
    return float(dm_pix.psnr(a / np.float32(255), b / np.float32(255)))

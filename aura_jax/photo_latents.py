"""Encode and decode images of any size, and keep their latents in a file.

The model needs sides that are multiples of its downsampling (8), so an image is padded at the right
and bottom edges. A `Latent` records where the image lies within the padded one, before and after a
flip, so that decoding can cut the padding off.
"""

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jax.typing import DTypeLike
from safetensors.numpy import save_file

from aura_jax.checkpoint.loading import load
from aura_jax.checkpoint.tensors import (
    FLOAT_TYPES,
    StoredTensor,
    check_ending,
    open_safetensors,
)
from aura_jax.config import AuraConfig
from aura_jax.errors import CheckpointError, printable
from aura_jax.files import replacing
from aura_jax.images.quality import psnr
from aura_jax.images.transforms import Pixels, Pixels8, pad_to_multiple, to_uint8
from aura_jax.model.autoencoder import AuraEquiVAE
from aura_jax.runtime.codec import Codec
from aura_jax.runtime.fitted import FittedCodec
from aura_jax.symmetry import FLIPS, Flip, flip_images, flip_latents

LATENTS = "latents"  # the entry of metadata that only files of latents have
FINGERPRINT = re.compile("[0-9a-f]{64}")

type Box = tuple[int, int, int, int]  # left, top, right, bottom, in pixels


@dataclasses.dataclass(frozen=True)
class Latent:
    """The latent of a padded image, and the box of the image without its padding.

    Attributes:
        values: [h, w, C].
        box: the image within the decoded one, which has [8h, 8w] pixels; the rest is padding.
    """

    values: np.ndarray
    box: Box

    def flipped(self, flip: Flip, scale: int) -> "Latent":
        """Return the latent of the flipped image; `scale` is the model's downsampling."""
        left, top, right, bottom = self.box
        height, width = (scale * side for side in self.values.shape[:2])
        if flip["horizontal"]:
            left, right = width - right, width - left
        if flip["vertical"]:
            top, bottom = height - bottom, height - top
        return Latent(flip_latents(self.values, **flip), (left, top, right, bottom))

    def cut(self, decoded: np.ndarray) -> np.ndarray:
        """Cut the padding off a decoded image [8h, 8w, 3]."""
        left, top, right, bottom = self.box
        return decoded[top:bottom, left:right]


@dataclasses.dataclass(frozen=True)
class Reconstruction:
    """A decoded image, and its PSNR in decibels against the original with the same flip."""

    image: Pixels8
    psnr: float


def load_rgb(
    weights: str, *, config: AuraConfig | None = None, dtype: DTypeLike | None = None
) -> AuraEquiVAE:
    """Load a model of RGB images, as `aura_jax.load` does.

    Raises:
        AuraError: as `aura_jax.load`, and if the model's images are not RGB.
    """
    vae = load(weights, config=config, dtype=dtype)
    vae.config.check_rgb(weights)
    return vae


def encode_photo(codec: Codec | FittedCodec, pixels: Pixels) -> Latent:
    """Pad an image [H, W, 3] in [-1, 1] of any size as the model needs it, and encode it.

    Raises:
        ImageError: if a side is shorter than the model's downsampling.
        ArrayError: if the device has too little memory for an image of this size.
    """
    padded = pad_to_multiple(pixels, codec.config.downsampling)
    values = np.asarray(codec.encode(padded[None]))[0]
    return Latent(values, (0, 0, pixels.shape[1], pixels.shape[0]))


def decode_photo(codec: Codec | FittedCodec, latent: Latent) -> Pixels8:
    """Decode a latent to the image [H, W, 3] that was encoded, without the padding.

    Raises:
        ArrayError: if the device has too little memory for an image of this size.
    """
    return latent.cut(np.asarray(codec.decode(latent.values[None], as_uint8=True))[0])


def reconstructions(codec: Codec | FittedCodec, pixels: Pixels) -> dict[str, Reconstruction]:
    """Encode an image, and decode its latent unchanged and with each flip.

    Returns:
        decode(flip_latents(encode(image))) for "none", "h", "v" and "hv".

    Raises:
        AuraError: as `encode_photo` and `decode_photo`.
    """
    original, latent = to_uint8(pixels), encode_photo(codec, pixels)
    results = {}
    for name, flip in FLIPS.items():
        image = decode_photo(codec, latent.flipped(flip, codec.config.downsampling))
        results[name] = Reconstruction(image, psnr(image, flip_images(original, **flip)))
    return results


@dataclasses.dataclass(frozen=True)
class LatentFile:
    """The contents of a file of latents.

    Attributes:
        latents: the latents by name.
        config: the config of the model that made them.
        weights: the fingerprint of that model's parameters; None in files that have none.
    """

    latents: Mapping[str, Latent]
    config: AuraConfig
    weights: str | None = None


def write_latents(path: Path, file: LatentFile) -> None:
    """Write latents to a safetensors file, with the config and fingerprint of their model.

    Raises:
        AuraError: if the file cannot be written, or has the ending of another format.
    """
    check_ending(path)
    arrays = {name: np.ascontiguousarray(z.values) for name, z in file.latents.items()}
    boxes = {name: latent.box for name, latent in file.latents.items()}
    weights = {} if file.weights is None else {"weights": file.weights}
    about = {"config": dataclasses.asdict(file.config), "boxes": boxes, **weights}
    # One entry: safetensors 0.8 orders several at random, and equal latents should be equal files.
    with replacing(path) as temporary:
        save_file(arrays, temporary, {LATENTS: json.dumps(about)})


def read_latents(path: Path) -> LatentFile:
    """Read a file that `write_latents` wrote.

    Raises:
        CheckpointError: if the file cannot be read, or was not written by `write_latents`.
    """
    stored = open_safetensors(path)
    try:
        about = json.loads(stored.metadata[LATENTS])
        config = AuraConfig(**about["config"])
        latents = {
            name: Latent(_values(tensor, config), _box(about["boxes"][name], tensor, config))
            for name, tensor in stored.tensors.items()
        }
        if not latents:
            raise ValueError("it holds none")
        weights = about.get("weights")
        if weights is not None and not FINGERPRINT.fullmatch(weights):
            raise ValueError("its fingerprint of weights is not a sha256")
    except (LookupError, TypeError, ValueError, ArithmeticError, RecursionError) as error:
        message = f"{path}: not latents as `aura-jax encode` writes them ({printable(str(error))})"
        raise CheckpointError(message) from None
    return LatentFile(latents, config, weights)


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
        raise ValueError(f"box {box} does not lie in an image of {width} x {height}")
    return left, top, right, bottom

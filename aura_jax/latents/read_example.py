"""Read the images of a cache at the sizes that the model encodes."""

from collections import Counter
from typing import NamedTuple

import numpy as np
from PIL import Image

from aura_jax.errors import CacheError, ImageError
from aura_jax.images.io import decode_8_bit
from aura_jax.images.transforms import Pixels8, covering, square
from aura_jax.latents.buckets import Bucket, nearest
from aura_jax.latents.examples import Example
from aura_jax.latents.serialize import CROP, ORIGINAL_SIZE, SIZE
from aura_jax.latents.spec import CacheSpec

BROKEN_PROFILE = "ignored color profile"  # a kind of problem, which the manifest counts


class Ready(NamedTuple):
    """An image of the size that the model encodes, and the entries to store beside its latent."""

    pixels: Pixels8
    about: dict[str, object]
    problems: Counter[str]

    @property
    def size(self) -> Bucket:
        """The size of the image."""
        return Bucket(*self.pixels.shape[:2])


class Skipped(NamedTuple):
    """The reason for skipping an image."""

    reason: str


def read_example(example: Example, spec: CacheSpec) -> Ready | Skipped:
    """Read an example at the size that the model encodes, or return the reason for skipping it.

    Raises:
        CacheError: if its file cannot be read now; the image itself may be fine, so it is not
            skipped.
    """
    try:
        problems: Counter[str] = Counter()
        data = example.image.read()
        image = decode_8_bit(
            data, example.key, spec.decoding, lambda note: problems.update([BROKEN_PROFILE])
        )
        pixels, place = _fitted(image, spec)
        return Ready(pixels, example.about(problems) | place, problems)
    except OSError as error:
        raise CacheError(
            f"{example.image}: cannot be read now ({error.strerror or error}); "
            "run the same command again once it can"
        ) from None
    except ImageError as error:
        return Skipped(str(error).removeprefix(f"{example.key}: "))


def _fitted(image: Image.Image, spec: CacheSpec) -> tuple[Pixels8, dict[str, object]]:
    """Bring an image to a size that the model encodes; in a bucket, also say what was cut off."""
    if spec.buckets:
        size = Bucket(image.height, image.width)
        bucket = nearest(spec.buckets, size)
        pixels, margins = covering(image, bucket)
        return pixels, {SIZE: bucket, ORIGINAL_SIZE: size, CROP: margins}
    if spec.resize is None or spec.height is None:
        return np.asarray(image), {}
    return square(image, spec.height), {}

"""The work on one shard: pictures in, one file of latents out; the same wherever it runs."""

import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import batched
from pathlib import Path
from typing import Any, NamedTuple

import grain
import jax
import numpy as np
from jaxtyping import Float, UInt8

from aura_jax.config import LATENT_LIMIT
from aura_jax.errors import CacheError, ImageError, first_of
from aura_jax.files import replacing
from aura_jax.images.io import decode_8_bit
from aura_jax.images.transforms import Pixels8, square
from aura_jax.latents.examples import Picture, Slice
from aura_jax.latents.manifest import Shard
from aura_jax.latents.quantize import NUMPY_TYPES, stored
from aura_jax.latents.shard_io import ENDINGS, checksum, records, writing
from aura_jax.latents.spec import ComputeType, Format, NumberType
from aura_jax.photo_latents import load_rgb
from aura_jax.runtime.codec import Codec
from aura_jax.runtime.rewrite import Precision


@dataclasses.dataclass(frozen=True)
class Plan:
    """How every shard of a cache is made.

    Attributes:
        out: the cache's folder.
        weights: as `aura_jax.load` takes them.
        compute: the type to compute in.
        size: height and width of all pictures as the model sees them.
        resize: whether pictures are cut to squares and scaled to that, or must be of that size.
        dtype: the type to store latents in.
        format: of the files.
        batch: pictures that are encoded at once.
        max_bad: pictures that may be left out of the whole cache.
    """

    out: Path
    weights: str
    compute: ComputeType
    size: tuple[int, int]
    resize: bool
    dtype: NumberType
    format: Format
    batch: int
    max_bad: int

    @property
    def precision(self) -> Precision:
        """Storing in fewer bits than float32 hides the rounding of faster convolutions."""
        return "highest" if self.dtype == "float32" else "fast"

    def file(self, part: Slice) -> str:
        """The name of a shard's file."""
        return f"{part.index:05}{ENDINGS[self.format]}"


class Encoder:
    """The model on one device, for batches of at most `plan.batch` pictures.

    Args:
        plan: names the weights.
        device: one of `jax.devices()`, where to run; the default one if None.
    """

    def __init__(self, plan: Plan, device: Any = None):
        self._device, self._batch = device, plan.batch
        with jax.default_device(device):
            vae = load_rgb(plan.weights, dtype=NUMPY_TYPES[plan.compute])
            self._codec = Codec(vae, precision=plan.precision)

    def __call__(self, images: UInt8[np.ndarray, "b h w 3"]) -> jax.Array:
        """Latents of pictures and of what fills the batch; computed in the background."""
        padding = self._batch - len(images)
        filled = np.pad(images, ((0, padding), (0, 0), (0, 0), (0, 0)))
        with jax.default_device(self._device):
            return self._codec.encode(filled)


class Bad(NamedTuple):
    """Why a picture is left out."""

    reason: str


class Good(NamedTuple):
    """A picture as the model sees it, and what is stored beside its latent."""

    pixels: Pixels8
    about: dict[str, object]


def encode_slice(
    part: Slice,
    plan: Plan,
    encoder: Encoder,
    *,
    left_out: Mapping[str, str],
    progress: Callable[[int], None],
) -> Shard:
    """Encodes the pictures of one slice into its file, which appears whole or not at all.

    Args:
        part: the pictures.
        plan: how.
        encoder: the model.
        left_out: why pictures are left out of other shards, by their keys.
        progress: is told after every batch how many latents it had; what it raises ends the work.

    Raises:
        CacheError: if more pictures than `plan.max_bad` are left out, their sizes are mixed without
            `plan.resize`, latents are not finite, a picture's file cannot be read now, or the
            shard cannot be written.
    """
    skipped: dict[str, str] = {}
    count = clamped = 0
    path = plan.out / plan.file(part)
    with replacing(path) as temporary:
        with writing(temporary, plan.format) as write:
            pictures = _readable(part, plan, skipped, left_out)
            for abouts, latents in _encoded(pictures, plan, encoder):
                if not np.isfinite(latents).all():
                    raise CacheError(f"{plan.weights}: gives latents that are NaN or infinite")
                for about, latent in zip(abouts, latents, strict=True):
                    write(stored(latent, plan.dtype), about)
                count += len(latents)
                clamped += int((np.abs(latents) >= LATENT_LIMIT).sum())
                progress(len(latents))
        if len(records(temporary, plan.format)) != count:
            raise CacheError(f"{path}: was not written whole; is the disk full?")
        size, sha256 = temporary.stat().st_size, checksum(temporary)
    return Shard(path.name, part.source, len(part.pictures), count, clamped, size, sha256, skipped)


def _readable(
    part: Slice, plan: Plan, skipped: dict[str, str], left_out: Mapping[str, str]
) -> Iterator[Good]:
    """Pictures in their order, read ahead by several threads; bad ones go to `skipped`."""
    options = grain.ReadOptions(
        num_threads=os.cpu_count() or 1, prefetch_buffer_size=2 * plan.batch
    )
    read = grain.MapDataset.source(part.pictures).map(partial(read_picture, plan=plan))
    for picture, result in zip(part.pictures, read.to_iter_dataset(options), strict=True):
        match result:
            case Good(pixels, _) if pixels.shape[:2] != plan.size:
                raise CacheError(_mixed(picture, pixels, plan.size))
            case Good():
                yield result
            case Bad(reason):
                skipped[picture.key] = reason
                check_bad({**left_out, **skipped}, plan.max_bad)


def _encoded(
    pictures: Iterable[Good], plan: Plan, encoder: Encoder
) -> Iterator[tuple[list[dict[str, object]], Float[np.ndarray, "b h w c"]]]:
    """Batches of latents; the device computes one while the one before is written."""
    waiting: tuple[list[dict[str, object]], jax.Array] | None = None
    for batch in batched(pictures, plan.batch):
        now = [good.about for good in batch], encoder(np.stack([good.pixels for good in batch]))
        if waiting is not None:
            yield _fetched(*waiting)
        waiting = now
    if waiting is not None:
        yield _fetched(*waiting)


def _fetched(
    abouts: list[dict[str, object]], latents: jax.Array
) -> tuple[list[dict[str, object]], Float[np.ndarray, "b h w c"]]:
    return abouts, np.asarray(latents)[: len(abouts)].astype(np.float32)


def read_picture(picture: Picture, plan: Plan) -> Good | Bad:
    """A picture as the plan wants it, or why it is none.

    Raises:
        CacheError: if its file cannot be read now, which says nothing about the picture.
    """
    try:
        image = decode_8_bit(picture.photo.read(), picture.key)
        pixels = square(image, plan.size[0]) if plan.resize else np.asarray(image)
        return Good(pixels, picture.about())
    except OSError as error:
        raise CacheError(
            f"{picture.photo}: cannot be read now ({error.strerror or error}); "
            "the same command goes on once it can"
        ) from None
    except ImageError as error:
        return Bad(str(error).removeprefix(f"{picture.key}: "))


def _mixed(picture: Picture, pixels: Pixels8, size: tuple[int, int]) -> str:
    (height, width), (rows, columns) = pixels.shape[:2], size
    return (
        f"{picture.photo}: {width} x {height}, and pictures before it are {columns} x {rows}; "
        "give --size to bring all to one"
    )


def check_bad(left_out: Mapping[str, str], max_bad: int) -> None:
    """Stops a cache that goes on without too many pictures.

    Raises:
        CacheError: if more than `max_bad` are left out, with the first ten.
    """
    if len(left_out) > max_bad:
        reasons = first_of(f"{key}: {reason}" for key, reason in left_out.items())
        raise CacheError(
            f"{len(left_out)} pictures cannot be cached, which is over --max-bad {max_bad}; "
            f"{reasons}"
        )

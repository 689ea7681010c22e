"""Make batches of random crops with Grain, decoded in parallel in an order that can resume."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import grain
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from aura_jax.errors import ImageError, TrainingError, counted
from aura_jax.images.io import decode_8_bit
from aura_jax.images.options import Decoding
from aura_jax.images.readers import ImageFile
from aura_jax.images.transforms import Pixels8
from aura_jax.training.config import Crops
from aura_jax.training.decoders import in_processes, stops_blocked
from aura_jax.training.skipped import Skipped

MAX_SHRINKING = 2.0  # with more, crops would have more detail per pixel than photographs

type Crop = tuple[Pixels8, str]  # the crop, and the name of its image


class Batch(NamedTuple):
    """Crops [B, size, size, 3] as 8-bit RGB, and the names of the images they come from."""

    images: UInt8[np.ndarray, "b s s 3"]
    names: tuple[str, ...]


def batches(
    images: Sequence[ImageFile],
    crops: Sequence[Crops],
    *,
    seed: int,
    skipped: Skipped,
    workers: int = 0,
    decoding: Decoding = Decoding(),
    process: int = 0,
    processes: int = 1,
) -> grain.DatasetIterator[Batch]:
    """Make an endless iterator of batches, which uses each of `crops` in turn.

    Each crop is a random square of an image, scaled down to `size` pixels. The square's side is
    log-uniform between `size` and twice that, or the shorter side of the image if that is less.
    Images that cannot be read or are smaller than the crop are skipped and recorded.

    Args:
        images: the image files, as `aura_jax.find_images` lists them.
        crops: the sizes, and the batches of all processes together.
        seed: the seed of the order and the crops.
        skipped: the record of skipped images.
        workers: the number of processes that decode; 0 decodes in threads of this process.
        decoding: how image files are decoded.
        process: the index of this process among those that train together.
        processes: their number; each takes its own part of the images and of every batch.

    Returns:
        A Grain iterator, whose get_state() and set_state() resume it exactly.

    Raises:
        TrainingError: if there are fewer images than a batch needs.
    """
    largest = max(batch for _, batch in crops)
    if len(images) < largest:
        total = counted(len(images), "image")
        raise TrainingError(f"{total} in all, fewer than a batch of {largest}")
    own = images[process::processes]
    streams = [
        grain.MapDataset.source(own)
        .seed(seed + i)
        .shuffle()
        .repeat()
        .random_map(partial(_random_crop, size=size, skipped=skipped, decoding=decoding))
        .filter(_is_crop)
        .to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=2 * batch))
        .batch(batch // processes, drop_remainder=True, batch_fn=_stack)
        for i, (size, batch) in enumerate(crops)
    ]
    mixed = grain.IterDataset.mix(streams)
    return iter(in_processes(mixed, workers) if workers else mixed)


def fetch(data: grain.DatasetIterator[Batch], skipped: Skipped) -> Batch:
    """Take the next batch.

    Raises:
        ImageError: if too many images are skipped.
        TrainingError: if a decoding process has died.
    """
    try:
        with stops_blocked():
            return next(data)
    except Exception as error:
        skipped.check()  # raises the plain error, which Grain wraps in others
        if "terminated unexpectedly" in str(error):  # Grain raises a plain RuntimeError
            raise TrainingError(
                "a process that decodes images was killed, maybe for its memory; "
                "use fewer --workers"
            ) from None
        raise


def _random_crop(
    file: ImageFile,
    rng: np.random.Generator,
    *,
    size: int,
    skipped: Skipped,
    decoding: Decoding,
) -> Crop | None:
    name = str(file)
    try:
        image = decode_8_bit(file.read(), name, decoding)
        if min(image.size) < size:
            raise ImageError(f"{image.width} x {image.height}, smaller than the crop of {size}")
    except (ImageError, OSError) as error:
        skipped.add(name, str(error).removeprefix(f"{name}: "))
        return None
    return _crop(image, rng, size), name


def _crop(image: Image.Image, rng: np.random.Generator, size: int) -> Pixels8:
    side = size * min(min(image.size) / size, MAX_SHRINKING) ** rng.random()
    left, top = (rng.uniform(0, length - side) for length in image.size)
    box = (left, top, left + side, top + side)
    return np.asarray(image.resize((size, size), Image.Resampling.LANCZOS, box))


def _is_crop(crop: Crop | None) -> bool:
    return crop is not None


def _stack(crops: Sequence[Crop | None]) -> Batch:
    images, names = zip(*filter(None, crops), strict=True)
    return Batch(np.stack(images), names)

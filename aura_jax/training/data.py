"""Batches of random crops through Grain: decoded in parallel, in an order that can be resumed."""

import dataclasses
import json
import signal
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import grain
import numpy as np
from absl import flags
from jaxtyping import UInt8
from PIL import Image

from aura_jax.errors import ImageError, TrainingError, first_of
from aura_jax.images.io import decode_8_bit
from aura_jax.images.readers import ImageFile
from aura_jax.images.transforms import Pixels8
from aura_jax.training.config import Crops

MAX_SHRINKING = 2.0  # smaller still, pixels hold more detail than those of photographs do
MAX_SKIPPED = 0.1  # of all pictures; with more, the data is not what its owner thinks


@dataclasses.dataclass(frozen=True)
class Skipped:
    """The pictures that were left out, kept in a file that all decoding processes append to.

    Attributes:
        path: JSON lines, each a name and why.
        total: how many pictures there are, of which at most a tenth may be left out.
    """

    path: Path
    total: int

    def read(self) -> dict[str, str]:
        """Why each picture was left out, by its name."""
        if not self.path.exists():
            return {}
        lines = self.path.read_text().splitlines(keepends=True)
        return dict(json.loads(line) for line in lines if line.endswith("\n"))  # others are half

    def add(self, name: str, reason: str) -> None:
        """Notes a picture, once.

        Raises:
            TrainingError: as `check`.
        """
        if name not in self.read():
            with self.path.open("a") as file:  # in one write, which processes cannot interleave
                file.write(json.dumps([name, reason]) + "\n")
        self.check()

    def check(self) -> None:
        """Stops what goes on without too many pictures.

        Raises:
            TrainingError: if more than a tenth are left out, with the first of them.
        """
        reasons = self.read()
        if len(reasons) > MAX_SKIPPED * self.total:
            raise TrainingError(
                f"{len(reasons)} of {self.total} pictures cannot be trained on, which is over "
                f"{MAX_SKIPPED:.0%}; {first_of(reasons.values())}"
            )


type Crop = tuple[Pixels8, str]  # and the name of the picture


class Batch(NamedTuple):
    """Crops [B, size, size, 3] as 8-bit RGB, and the names of the pictures they are from."""

    images: UInt8[np.ndarray, "b s s 3"]
    names: tuple[str, ...]


def batches(
    photos: Sequence[ImageFile],
    crops: Sequence[Crops],
    *,
    seed: int,
    skipped: Skipped,
    workers: int = 0,
    process: int = 0,
    processes: int = 1,
) -> grain.DatasetIterator[Batch]:
    """An endless iterator of batches, of each of `crops` in turns.

    Each crop is a random square of a picture, of `size` pixels up to twice that (log-uniform) as
    far as the picture reaches, scaled down to `size`. Pictures that cannot be read or are smaller
    than the crop are left out and noted.

    Args:
        photos: the pictures.
        crops: sizes, and batches over all processes.
        seed: of the order and the crops.
        skipped: where to note them.
        workers: processes that decode; 0 decodes in threads of this one.
        process: index of this process among `processes` that train together.
        processes: each takes its own part of the pictures and of every batch.

    Returns:
        A Grain iterator, whose get_state() and set_state() resume it exactly.

    Raises:
        TrainingError: if there are fewer pictures than a batch needs.
    """
    largest = max(batch for _, batch in crops)
    if len(photos) < largest:
        raise TrainingError(f"{len(photos)} pictures are fewer than a batch of {largest}")
    own = photos[process::processes]
    streams = [
        grain.MapDataset.source(own)
        .seed(seed + i)
        .shuffle()
        .repeat()
        .random_map(partial(_random_crop, size=size, skipped=skipped))
        .filter(_is_crop)
        .to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=2 * batch))
        .batch(batch // processes, drop_remainder=True, batch_fn=_stack)
        for i, (size, batch) in enumerate(crops)
    ]
    mixed = grain.IterDataset.mix(streams)
    if workers:
        if (
            not flags.FLAGS.is_parsed()
        ):  # Grain asks for its flags, which only absl's own apps parse
            flags.FLAGS.mark_as_parsed()
        options = grain.MultiprocessingOptions(num_workers=workers)
        mixed = mixed.mp_prefetch(options, worker_init_fn=_leave_interrupts_to_the_run)
    return iter(mixed)


def fetch(data: grain.DatasetIterator[Batch], skipped: Skipped) -> Batch:
    """The next batch.

    Raises:
        TrainingError: if too many pictures are left out, or a decoding process has died.
    """
    try:
        return next(data)
    except Exception as error:
        skipped.check()  # the plain error, without what Grain and other processes wrap it in
        if "terminated unexpectedly" in str(error):
            raise TrainingError("a process that decodes pictures was killed (memory?)") from None
        raise


def _leave_interrupts_to_the_run(_index: int, _count: int) -> None:
    """Ctrl-C reaches every process of a terminal; the run saves first, then ends its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _random_crop(
    photo: ImageFile, rng: np.random.Generator, *, size: int, skipped: Skipped
) -> Crop | None:
    try:
        image = decode_8_bit(photo.read(), str(photo))
        if min(image.size) < size:
            raise ImageError(f"{photo}: {image.width} x {image.height}, under the crop of {size}")
    except (ImageError, OSError) as error:
        skipped.add(str(photo), str(error))
        return None
    return _crop(image, rng, size), str(photo)


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

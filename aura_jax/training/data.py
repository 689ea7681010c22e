"""Make batches of random crops with Grain, decoded in parallel in an order that can resume."""

import dataclasses
import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing import resource_tracker
from pathlib import Path
from typing import NamedTuple

import grain
import msgspec
import numpy as np
from absl import flags
from jaxtyping import UInt8
from PIL import Image

from aura_jax.errors import ImageError, TrainingError, counted
from aura_jax.images.io import decode_8_bit
from aura_jax.images.options import Decoding
from aura_jax.images.readers import ImageFile, check_skipped
from aura_jax.images.transforms import Pixels8
from aura_jax.signals import STOPS
from aura_jax.training.config import Crops
from aura_jax.training.workdir import read_lines

MAX_SHRINKING = 2.0  # with more, crops would have more detail per pixel than photographs
MAX_SKIPPED = 0.1  # of all images; if more are skipped, the data set is probably wrong


@dataclasses.dataclass(frozen=True)
class Skipped:
    """A record of skipped images, in a file that all decoding processes append to.

    Attributes:
        path: the file of JSON lines, each of which is a name and the reason.
        total: the number of images, of which at most a tenth may be skipped.
    """

    path: Path
    total: int

    def read(self) -> dict[str, str]:
        """Read the reason for skipping each image, by its name."""
        convert = partial(msgspec.convert, type=tuple[str, str])
        return dict(read_lines(self.path, convert))

    def add(self, name: str, reason: str) -> None:
        """Record a skipped image, if it is not recorded yet.

        Raises:
            ImageError: as `check`.
        """
        if name not in self.read():
            with self.path.open("a") as file:  # in one write, which processes cannot interleave
                file.write(json.dumps([name, reason]) + "\n")
        self.check()

    def check(self) -> None:
        """Check that at most a tenth of the images are skipped.

        Raises:
            ImageError: if more are; the message has the first reasons.
        """
        limit, total = int(MAX_SKIPPED * self.total), counted(self.total, "image")
        check_skipped(self.read(), limit, f"a tenth of {total}")


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
    if workers:
        if not flags.FLAGS.is_parsed():  # Grain 0.2 reads flags, which only absl's apps parse
            flags.FLAGS.mark_as_parsed()
        resource_tracker.ensure_running()  # if started in `fetch`, it would unblock the signals
        options = grain.MultiprocessingOptions(num_workers=workers)
        mixed = mixed.mp_prefetch(options, worker_init_fn=_end_with_parent)
    return iter(mixed)


def fetch(data: grain.DatasetIterator[Batch], skipped: Skipped) -> Batch:
    """Take the next batch.

    Raises:
        ImageError: if too many images are skipped.
        TrainingError: if a decoding process has died.
    """
    try:
        with _stops_blocked():
            return next(data)
    except Exception as error:
        skipped.check()  # raises the plain error, which Grain wraps in others
        if "terminated unexpectedly" in str(error):  # Grain raises a plain RuntimeError
            raise TrainingError(
                "a process that decodes images was killed, maybe for its memory; "
                "use fewer --workers"
            ) from None
        raise


@contextmanager
def _stops_blocked() -> Iterator[None]:
    """Block STOPS in the block, so that decoding processes that start in it inherit the mask.

    Terminals and schedulers send signals to all processes, but only the run may handle them: it
    saves first, then ends its workers. A signal during the block is delivered to this process after
    the block.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_with_parent(worker: int, workers: int) -> None:
    """Make a decoding process exit with its run, even if that is killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


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

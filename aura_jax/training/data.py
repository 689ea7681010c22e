"""Batches of random crops through Grain: decoded in parallel, in an order that can be resumed."""

import dataclasses
import json
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing import resource_tracker
from pathlib import Path
from typing import NamedTuple

import grain
import numpy as np
from absl import flags
from jaxtyping import UInt8
from PIL import Image

from aura_jax.errors import ImageError, TrainingError
from aura_jax.images.io import decode_8_bit
from aura_jax.images.readers import ImageFile, check_skipped, find_images
from aura_jax.images.transforms import Pixels8
from aura_jax.training.config import Crops
from aura_jax.training.workdir import read_lines

__all__ = ["Batch", "Skipped", "batches", "fetch", "find_images"]

MAX_SHRINKING = 2.0  # scaled down further, crops would show more detail than photographs have
MAX_SKIPPED = 0.1  # of all images; if more are skipped, the data is not what its owner thinks


@dataclasses.dataclass(frozen=True)
class Skipped:
    """The skipped images, kept in a file that all decoding processes append to.

    Attributes:
        path: JSON lines, each a name and the reason.
        total: how many images there are; at most a tenth of them may be skipped.
    """

    path: Path
    total: int

    def read(self) -> dict[str, str]:
        """Read why each image was skipped, by its name."""
        return dict(read_lines(self.path))

    def add(self, name: str, reason: str) -> None:
        """Record a skipped image, once.

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
            ImageError: if more are, with the first reasons.
        """
        check_skipped(self.read(), int(MAX_SKIPPED * self.total), f"a tenth of {self.total} images")


type Crop = tuple[Pixels8, str]  # and the name of the image


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
    process: int = 0,
    processes: int = 1,
) -> grain.DatasetIterator[Batch]:
    """Make an endless iterator of batches that takes each of `crops` in turn.

    Each crop is a random square of an image, of `size` pixels up to twice that (log-uniform) as
    far as the image reaches, scaled down to `size`. Images that cannot be read or are smaller than
    the crop are skipped and recorded.

    Args:
        images: the image files, as `find_images` lists them.
        crops: sizes, and batches over all processes.
        seed: of the order and the crops.
        skipped: the record of skipped images.
        workers: processes that decode; 0 decodes in threads of this one.
        process: index of this process among `processes` that train together.
        processes: each takes its own part of the images and of every batch.

    Returns:
        A Grain iterator, whose get_state() and set_state() resume it exactly.

    Raises:
        TrainingError: if there are fewer images than a batch needs.
    """
    largest = max(batch for _, batch in crops)
    if len(images) < largest:
        raise TrainingError(f"{len(images)} images are fewer than a batch of {largest}")
    own = images[process::processes]
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
        if not flags.FLAGS.is_parsed():  # Grain reads flags, which only absl's own apps parse
            flags.FLAGS.mark_as_parsed()
        resource_tracker.ensure_running()  # started within a fetch it would unblock SIGINT there
        mixed = mixed.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers))
    return iter(mixed)


def fetch(data: grain.DatasetIterator[Batch], skipped: Skipped) -> Batch:
    """Take the next batch.

    Raises:
        ImageError: if too many images are skipped.
        TrainingError: if a decoding process has died.
    """
    try:
        with _interrupts_blocked():
            return next(data)
    except Exception as error:
        skipped.check()  # the plain error, without what Grain and other processes wrap it in
        if "terminated unexpectedly" in str(error):  # Grain raises a plain RuntimeError
            raise TrainingError(
                "a process that decodes images was killed, maybe for its memory; "
                "use fewer --workers"
            ) from None
        raise


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Block SIGINT, for decoding processes that start in the block and inherit the mask.

    Ctrl-C reaches every process of a terminal, but only the run may answer it: it saves first, then
    ends its workers. A Ctrl-C during the block reaches this process at its end.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _random_crop(
    file: ImageFile, rng: np.random.Generator, *, size: int, skipped: Skipped
) -> Crop | None:
    name = str(file)
    try:
        image = decode_8_bit(file.read(), name)
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

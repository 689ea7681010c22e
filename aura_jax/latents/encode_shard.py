"""Encode the image files of one shard into one file of latents."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import batched
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Float

from aura_jax.config import LATENT_LIMIT
from aura_jax.errors import CacheError, ImageError
from aura_jax.extras import needs
from aura_jax.files import replacing
from aura_jax.images.io import decode_8_bit
from aura_jax.images.readers import check_skipped
from aura_jax.images.transforms import Pixels8, square
from aura_jax.latents.examples import Example, ShardInput
from aura_jax.latents.manifest import Shard
from aura_jax.latents.quantize import quantize
from aura_jax.latents.shard_io import checksum, records, writing
from aura_jax.latents.spec import CacheSpec

with needs("cache"):
    import grain

if TYPE_CHECKING:
    from aura_jax.latents.encoder import Encode

ADVICE = "--max-skipped"
BROKEN_PROFILE = "ignored color profile"  # a kind of problem, which the manifest counts


@dataclasses.dataclass(frozen=True)
class Work:
    """Instructions for every worker.

    Attributes:
        spec: the contents of the cache.
        out: the cache's folder.
        weights: a checkpoint in any form that `aura_jax.load` accepts.
        batch: the number of images that a process encodes at once.
        max_skipped: the number of images that may be skipped in the whole cache.
    """

    spec: CacheSpec
    out: Path
    weights: str
    batch: int
    max_skipped: int


class Ready(NamedTuple):
    """An image of the size that the model encodes, and the entries to store beside its latent."""

    pixels: Pixels8
    about: dict[str, object]
    problems: Counter[str]


class Skipped(NamedTuple):
    """The reason for skipping an image."""

    reason: str


def encode_shard(
    shard: ShardInput,
    work: Work,
    encode: "Encode",
    *,
    threads: int,
    skipped: Mapping[str, str],
    progress: Callable[[int], None],
) -> Shard:
    """Encode the examples of one shard, and write its file whole or not at all.

    Args:
        shard: the examples.
        work: how to encode them.
        encode: the model.
        threads: the number of threads that read image files.
        skipped: the reasons for skipping images of other shards, by their keys.
        progress: called after every batch with its number of latents; an exception that it raises
            ends the work.

    Raises:
        AuraError: if more than `work.max_skipped` images are skipped, sizes differ and
            `spec.resize` is None, latents are not finite, the disk fails while an image file is
            read, or the shard cannot be written.
    """
    found = _Found(skipped, work.max_skipped)
    count = clamped = 0
    path = work.out / work.spec.file(shard.index)
    with replacing(path) as temporary:
        with writing(temporary, work.spec.format) as write:
            ready = _read_ahead(shard, work, threads, found)
            for abouts, latents in _encoded(ready, work.batch, encode):
                if not np.isfinite(latents).all():
                    raise CacheError(f"{work.weights}: gives latents that are NaN or infinite")
                for about, latent in zip(abouts, latents, strict=True):
                    write(quantize(latent, work.spec.storage_dtype), about)
                count += len(latents)
                clamped += int((np.abs(latents) >= LATENT_LIMIT).sum())
                progress(len(latents))
        if len(records(temporary, work.spec.format)) != count:
            raise CacheError(f"{path}: was not written whole; is the disk full?")
        size, sha256 = temporary.stat().st_size, checksum(temporary)
    return Shard(
        file=path.name,
        source=shard.source,
        examples=len(shard.examples),
        count=count,
        clamped=clamped,
        bytes=size,
        sha256=sha256,
        skipped=found.here,
        problems=dict(found.problems),
    )


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
        pixels = np.asarray(image) if spec.resize is None else square(image, spec.height)
        return Ready(pixels, example.about(problems), problems)
    except OSError as error:
        raise CacheError(
            f"{example.image}: cannot be read now ({error.strerror or error}); "
            "run the same command again once it can"
        ) from None
    except ImageError as error:
        return Skipped(str(error).removeprefix(f"{example.key}: "))


class _Found:
    """The problems of a shard; its skipped images count toward the limit of the whole cache."""

    def __init__(self, others: Mapping[str, str], limit: int):
        self._others, self._limit = others, limit
        self.here: dict[str, str] = {}
        self.problems: Counter[str] = Counter()

    def skip(self, key: str, reason: str) -> None:
        self.here[key] = reason
        check_skipped({**self._others, **self.here}, self._limit, ADVICE)


def _read_ahead(shard: ShardInput, work: Work, threads: int, found: _Found) -> Iterator[Ready]:
    """Yield the readable images in order, while threads read the next ones."""
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * work.batch)
    read = grain.MapDataset.source(shard.examples).map(partial(read_example, spec=work.spec))
    size = work.spec.height, work.spec.width
    for example, result in zip(shard.examples, read.to_iter_dataset(options), strict=True):
        match result:
            case Ready(pixels) if pixels.shape[:2] != size:
                raise CacheError(_mixed(example, pixels, size))
            case Ready():
                found.problems += result.problems
                yield result
            case Skipped(reason):
                found.skip(example.key, reason)


def _encoded(
    ready: Iterable[Ready], batch: int, encode: "Encode"
) -> Iterator[tuple[list[dict[str, object]], Float[np.ndarray, "b h w c"]]]:
    """Yield batches of latents; the device computes a batch while the previous one is written."""
    waiting: tuple[list[dict[str, object]], Any] | None = None
    for group in batched(ready, batch):
        now = [each.about for each in group], encode(np.stack([each.pixels for each in group]))
        if waiting is not None:
            yield waiting[0], np.asarray(waiting[1]).astype(np.float32)
        waiting = now
    if waiting is not None:
        yield waiting[0], np.asarray(waiting[1]).astype(np.float32)


def _mixed(example: Example, pixels: Pixels8, size: tuple[int, int]) -> str:
    (height, width), (rows, columns) = pixels.shape[:2], size
    return (
        f"{example.image}: {width} x {height}, and images before it are {columns} x {rows}; "
        "give --size to bring all to one size"
    )

"""Encode the images of a tar or group of files into a file of latents for each size."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from aura_jax.errors import CacheError
from aura_jax.extras import needs
from aura_jax.images.readers import check_skipped
from aura_jax.latents.buckets import Bucket
from aura_jax.latents.examples import Example, ShardInput
from aura_jax.latents.manifest import Shard
from aura_jax.latents.read_example import Ready, Skipped, read_example
from aura_jax.latents.shard_file import ShardFile, writing_shard
from aura_jax.latents.spec import CacheSpec

with needs("cache"):
    import grain

if TYPE_CHECKING:
    from aura_jax.latents.encoder import Encode

ADVICE = "--max-skipped"


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


def encode_shard(
    shard: ShardInput,
    work: Work,
    encode: "Encode",
    *,
    threads: int,
    skipped: Mapping[str, str],
    progress: Callable[[int], None],
) -> tuple[Shard, ...]:
    """Encode the examples of one shard, and write its files, each whole or not at all.

    Args:
        shard: the examples.
        work: how to encode them.
        encode: the model.
        threads: the number of threads that read image files.
        skipped: the reasons for skipping images of other shards, by their keys.
        progress: called after every batch with its number of latents; an exception that it raises
            ends the work.

    Returns:
        The file; in a cache with buckets one for each that an image fits, or an empty one.

    Raises:
        AuraError: if more than `work.max_skipped` images are skipped, sizes differ and
            `spec.resize` is None, latents are not finite, the disk fails while an image file is
            read, or the shard cannot be written.
    """
    found, spec = _Found(skipped, work.max_skipped), work.spec
    files: dict[Bucket, ShardFile] = {}
    with ExitStack() as stack:

        def file_for(size: Bucket) -> ShardFile:
            if size not in files:
                path = work.out / spec.file(shard.index, size)
                files[size] = stack.enter_context(writing_shard(path, spec))
            return files[size]

        ready = _read_ahead(shard, work, threads, found)
        for group, latents in _encoded(ready, work.batch, encode):
            if not np.isfinite(latents).all():
                raise CacheError(f"{work.weights}: gives latents that are NaN or infinite")
            file_for(group[0].size).add(latents, [each.about for each in group])
            progress(len(latents))
        if not files:  # all images were skipped
            file_for(spec.image_sizes[0])
    return tuple(_shards(shard, spec, files, found))


def _shards(
    shard: ShardInput, spec: CacheSpec, files: Mapping[Bucket, ShardFile], found: "_Found"
) -> Iterator[Shard]:
    """Describe the files; the first also has the images without a size, which were skipped."""
    skipped, problems = found.here, dict(found.problems)
    for size, file in sorted(files.items()):
        yield Shard(
            file=spec.file(shard.index, size),
            source=shard.source,
            examples=file.count + len(skipped),
            count=file.count,
            clamped=file.clamped,
            bytes=file.bytes,
            sha256=file.sha256,
            skipped=skipped,
            problems=problems,
            size=size if spec.buckets else None,
            parts=len(files),
        )
        skipped, problems = {}, {}


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
    sizes = work.spec.image_sizes
    for example, result in zip(shard.examples, read.to_iter_dataset(options), strict=True):
        match result:
            case Ready() if result.size not in sizes:
                raise CacheError(_mixed(example, result.size, sizes[0]))
            case Ready():
                found.problems += result.problems
                yield result
            case Skipped(reason):
                found.skip(example.key, reason)


def _encoded(
    ready: Iterable[Ready], batch: int, encode: "Encode"
) -> Iterator[tuple[list[Ready], Float[np.ndarray, "b h w c"]]]:
    """Yield batches with their latents; the device computes one while the previous is written."""
    waiting: tuple[list[Ready], Any] | None = None
    for group in _of_one_size(ready, batch):
        now = group, encode(np.stack([each.pixels for each in group]))
        if waiting is not None:
            yield waiting[0], np.asarray(waiting[1]).astype(np.float32)
        waiting = now
    if waiting is not None:
        yield waiting[0], np.asarray(waiting[1]).astype(np.float32)


def _of_one_size(ready: Iterable[Ready], batch: int) -> Iterator[list[Ready]]:
    """Divide images into batches of one size each; only the last of a size may be smaller."""
    waiting: dict[Bucket, list[Ready]] = {}
    for each in ready:
        group = waiting.setdefault(each.size, [])
        group.append(each)
        if len(group) == batch:
            yield waiting.pop(each.size)
    yield from waiting.values()


def _mixed(example: Example, size: Bucket, before: Bucket) -> str:
    return (
        f"{example.image}: {size.width} x {size.height}, and images before it are "
        f"{before.width} x {before.height}; give --size to bring all to one size, or --area and "
        "--aspect-ratios to group them by their shapes"
    )

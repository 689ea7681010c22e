"""Make a cache: turn images and options into a spec, and encode the shards that are missing."""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from importlib.metadata import version
from itertools import chain
from pathlib import Path

import numpy as np
from jax.typing import DTypeLike

import aura_jax
from aura_jax.checkpoint.describe import summarize
from aura_jax.checkpoint.hub import find_checkpoint, is_local
from aura_jax.checkpoint.prefix import autoencoder_in
from aura_jax.checkpoint.shards import files_of, open_checkpoint
from aura_jax.config import AuraConfig
from aura_jax.dtypes import as_dtype, default_compute_dtype
from aura_jax.files import check_outside
from aura_jax.images.left_out import bounded
from aura_jax.images.options import Decoding
from aura_jax.latents.buckets import Bucket
from aura_jax.latents.choices import Format
from aura_jax.latents.encode_shard import Work
from aura_jax.latents.examples import ShardInput, find_examples, keys_of, sizes_sha256
from aura_jax.latents.executors import Executor, LocalExecutor
from aura_jax.latents.image_size import image_size
from aura_jax.latents.ledger import Ledger
from aura_jax.latents.locks import BusyError, writing_lock
from aura_jax.latents.manifest import Environment, Manifest, Origin
from aura_jax.latents.progress import Listener
from aura_jax.latents.shard_io import checksum
from aura_jax.latents.spec import AS_STORED, COMPUTE_DTYPES, CONVERTED, STORAGE_DTYPES, CacheSpec
from aura_jax.latents.workspace import CacheFolder


def make(
    images: Sequence[Path],
    out: Path,
    *,
    weights: str = "small",
    size: int | None = None,
    buckets: Sequence[Bucket] = (),
    storage_dtype: DTypeLike = "bfloat16",
    compute_dtype: DTypeLike | None = None,
    equivariant: bool = False,
    format: Format = "arrayrecord",  # noqa: A002  the option's name
    per_shard: int = 4096,
    batch: int = 8,
    max_skipped: int = 100,
    prefix_keys: bool = False,
    decoding: Decoding = Decoding(),
    job: tuple[int, int] = (0, 1),
    executor: Callable[[], Executor] = LocalExecutor,
    listener: Listener | None = None,
) -> Manifest | None:
    """Encode the unfinished shards of a job, and finish the cache if no other shard is missing.

    Args:
        images: folders, tars and image files.
        out: the cache's folder.
        weights: a checkpoint in any form that `aura_jax.load` accepts.
        size: the side in pixels to which the largest centered square of each image is scaled.
        buckets: sizes instead; each image is scaled to cover the one with the nearest ratio of its
            sides, and cut. With neither, images are kept unchanged and must all have one size.
        storage_dtype: the dtype to store latents in: bfloat16, float32 or int8.
        compute_dtype: the dtype that the model computes in: bfloat16 or float32; by default float32
            on CPUs and bfloat16 on accelerators.
        equivariant: whether the model is averaged over the flips, as `aura_jax.equivariant` does.
            Then a flipped latent is what encoding the flipped image would have given, up to the
            rounding of both dtypes.
        format: the file format of the shards.
        per_shard: the number of files of a folder in each shard.
        batch: the number of images that a process encodes at once, rounded up to a multiple of its
            devices, which share them.
        max_skipped: the number of images that may be skipped because they cannot be read.
        prefix_keys: whether keys from tars begin with the tar's name, for tars with equal keys.
        decoding: how image files are decoded.
        job: (i, n), to make only the shards whose number is i modulo n.
        executor: makes the executor, after everything else has been checked.
        listener: receives the progress.

    Returns:
        The manifest of the finished cache; None if other jobs have not finished.

    Raises:
        AuraError: if an option is invalid, or the images, weights or folder cannot be used.
    """
    storage_dtype = as_dtype(storage_dtype, STORAGE_DTYPES, name="storage dtype")
    if compute_dtype is not None:
        compute_dtype = as_dtype(compute_dtype, COMPUTE_DTYPES, name="compute dtype")
    folder = CacheFolder(out)
    folder.check()
    check_outside(out, images)
    sha256, config = _model(weights)
    left_out: Counter[str] = Counter()
    shards = find_examples(images, per_shard, prefix_keys=prefix_keys, left_out=left_out)
    height, width, resize = image_size(size, buckets, config, shards, decoding)
    place = executor()
    spec = CacheSpec(
        weights=sha256,
        config=config,
        height=height,
        width=width,
        resize=resize,
        storage_dtype=storage_dtype,
        compute_dtype=np.dtype(compute_dtype or default_compute_dtype(place.platform)),
        format=format,
        per_shard=per_shard,
        images=sum(len(shard.examples) for shard in shards),
        keys=keys_of(shards),
        sizes=sizes_sha256(shards),
        prefix_keys=prefix_keys,
        colors=AS_STORED if decoding.raw_colors else CONVERTED,
        max_pixels=decoding.max_pixels,
        equivariant=equivariant,
        buckets=tuple(sorted(buckets)),
    )
    environment = Environment(aura_jax.__version__, version("jax"), place.platform, batch)
    origin = _origin(weights, images, out)
    draft = Manifest(
        *(spec, origin, environment, _classes(shards)), shards=(), left_out=bounded(left_out)
    )
    # Absolute paths, since workers may run in another directory.
    local = str(Path(weights).absolute()) if is_local(weights) else weights
    work = Work(spec, out.absolute(), local, batch, max_skipped)
    return _encode(folder, draft, shards, work, place, job, listener or Listener())


def _model(weights: str) -> tuple[str, AuraConfig]:
    """Return the sha256 of a checkpoint, and the sizes of its model, which takes RGB images."""
    checkpoint = find_checkpoint(weights)
    config = summarize(autoencoder_in(open_checkpoint(checkpoint))).config
    config.check_rgb(weights)
    return checksum(*files_of(checkpoint)), config


def _encode(
    folder: CacheFolder,
    draft: Manifest,
    shards: Sequence[ShardInput],
    work: Work,
    executor: Executor,
    job: tuple[int, int],
    listener: Listener,
) -> Manifest | None:
    """Encode the job's shards under the folder's lock, and finish the cache if none is missing."""
    index, count = job
    with writing_lock(folder.path, None if count == 1 else f"{index}-{count}"):
        done = folder.begin(draft)
        folder.sweep(draft, range(index, len(shards), count))
        todo = [each for each in shards[index::count] if each.index not in done]
        found = chain(*done.values())
        ledger = Ledger(folder, draft.spec, found, work.max_skipped, listener)
        if todo:
            listener.started(sum(len(each.examples) for each in todo))
            executor.run(todo, work, ledger)
        if count == 1:
            return folder.finish(draft, len(shards))
    try:
        with writing_lock(folder.path):  # succeeds only in the last job, when no other holds a lock
            return folder.finish(draft, len(shards))
    except BusyError:
        return None


def _classes(shards: Sequence[ShardInput]) -> tuple[str, ...]:
    labels = {example.label for shard in shards for example in shard.examples}
    return tuple(sorted(label for label in labels if label is not None))


def _origin(weights: str, images: Sequence[Path], out: Path) -> Origin:
    """Return paths relative to the cache, so that it can be moved together with its images."""
    return Origin(
        weights=_relative(Path(weights), out) if is_local(weights) else weights,
        images=tuple(_relative(place, out) for place in images),
    )


def _relative(path: Path, folder: Path) -> str:
    # This does not follow a link: keys come from its name.
    place = Path(os.path.normpath(path.absolute()))
    return os.path.relpath(place.parent.resolve() / place.name, folder.resolve())

"""Verify a cache: its files against its manifest, and its latents against its images."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import batched, groupby
from pathlib import Path

import numpy as np

from aura_jax.arrays import relative_error
from aura_jax.checkpoint.hub import find_checkpoint, is_local
from aura_jax.checkpoint.shards import files_of
from aura_jax.config import LATENT_LIMIT
from aura_jax.errors import AuraError, CacheError, counted
from aura_jax.images.transforms import Pixels8
from aura_jax.latents.buckets import Bucket
from aura_jax.latents.encoder import Encoder, EncoderFactory
from aura_jax.latents.examples import Example, find_examples, keys_of, keys_sha256
from aura_jax.latents.manifest import NAME, Manifest, Shard
from aura_jax.latents.quantize import dequantize, quantize
from aura_jax.latents.read_example import Skipped, read_example
from aura_jax.latents.serialize import ORIGINAL_SIZE, Sample, parse
from aura_jax.latents.shard_io import checksum, records
from aura_jax.latents.source import LatentSource
from aura_jax.latents.spec import ENCODING, CacheSpec

# The largest relative L2 distance between a cached latent and the same image encoded again, perhaps
# on another device. In bfloat16 each is 1-2e-2 from exact; latents of other images differ by 1 or
# more.
REENCODED = 5e-2

ELSEWHERE = "say where they are with --images, or verify without them by --sample 0"
ADVICE = "\ndelete damaged files and run the same aura-jax cache make again to replace them"


def check_shards(source: LatentSource, progress: Callable[[int], None]) -> None:
    """Check every file against the manifest: its size, checksum, count and records.

    The keys of latents and skipped images must together be the keys of all images, so that no image
    is missing or cached twice.

    Args:
        source: the cache.
        progress: called with the number of records read since the previous call.

    Raises:
        CacheError: if anything is wrong; the message lists every problem.
    """
    manifest, keys, problems = source.manifest, [], []
    for shard in manifest.shards:
        found = [*shard.skipped]
        problems += _problems(source.folder / shard.file, shard, manifest, found)
        keys.append((shard.index, shard.source, found))
        progress(shard.count)
    if not problems:
        problems += _misfits(manifest.spec, keys)
    if problems:
        raise CacheError("\n".join(problems) + ADVICE)


def check_sample(
    source: LatentSource,
    count: int,
    weights: str | None,
    images: Sequence[Path] | None,
    encoder: EncoderFactory = Encoder,
) -> float:
    """Encode randomly drawn images again, and compare with the stored latents.

    Args:
        source: the cache.
        count: the number of images to draw.
        weights: the checkpoint; None for the location recorded in the manifest.
        images: the folders, tars and image files; None for the recorded locations.
        encoder: makes the model.

    Returns:
        The largest relative L2 distance of a stored latent from the new one.

    Raises:
        CacheError: if the distance is over the tolerance, or weights or images have changed or
            moved.
    """
    spec, batch = source.manifest.spec, source.manifest.environment.batch
    name, examples = _weights(source, weights), _examples(source, images)
    rng = np.random.default_rng()
    drawn = sorted(rng.choice(len(source), min(count, len(source)), replace=False).tolist())
    encode, worst = encoder(spec, name, batch), 0.0
    for indices in _of_one_size(source, drawn, batch):
        samples = [source[index] for index in indices]
        size = Bucket(*source.sizes[indices[0]].tolist())
        pixels = [_pixels(_example(examples, each), spec, size, each) for each in samples]
        latents = np.asarray(encode(np.stack(pixels))).astype(np.float32)
        for sample, latent in zip(samples, latents, strict=True):
            again = dequantize(quantize(latent, spec.storage_dtype))
            worst = max(worst, _distance(sample, again))
    return worst


def _of_one_size(
    source: LatentSource, indices: Sequence[int], batch: int
) -> Iterator[tuple[int, ...]]:
    """Divide samples into batches of one size each; neighbors mostly have the same."""
    for _, group in groupby(indices, lambda index: source.sizes[index].tolist()):
        yield from batched(group, batch)


def _example(examples: Mapping[str, Example], sample: Sample) -> Example:
    if sample["key"] not in examples:
        raise CacheError(f"{sample['key']}: the image is not there; {ELSEWHERE}")
    return examples[sample["key"]]


def _pixels(example: Example, spec: CacheSpec, size: Bucket, sample: Sample) -> Pixels8:
    result = read_example(example, spec)
    if isinstance(result, Skipped):
        raise CacheError(f"{example.key}: the image cannot be read now ({result.reason})")
    original = result.about.get(ORIGINAL_SIZE, size)
    if result.size != size or original != tuple(sample.get(ORIGINAL_SIZE, size)):
        raise CacheError(f"{example.key}: the image has another size now")
    return result.pixels


def _distance(sample: Sample, again: np.ndarray) -> float:
    distance = relative_error(sample["latent"], again)
    if not distance <= REENCODED:
        raise CacheError(
            f"{sample['key']}: encoded again its latent differs by {distance:.2g} "
            f"(relative L2), over {REENCODED}: the image is not the one that was cached"
        )
    return distance


def _problems(path: Path, shard: Shard, manifest: Manifest, keys: list[str]) -> Iterator[str]:
    """Yield every problem of a file, and add its keys to `keys`."""
    spec, size = manifest.spec, manifest.size_of(shard)
    if not path.exists():
        yield f"{path}: missing"
        return
    if path.stat().st_size != shard.bytes:
        yield f"{path}: {path.stat().st_size} bytes, expected {shard.bytes}: truncated?"
    elif checksum(path) != shard.sha256:
        yield f"{path}: its sha256 is not the manifest's: damaged"
    try:
        found = records(path, spec.format)
    except CacheError as error:
        yield str(error)
        return
    if len(found) != shard.count or len(found) + len(shard.skipped) != shard.examples:
        yield (
            f"{path}: {counted(len(found), 'latent')}, expected {shard.count}; "
            f"with {len(shard.skipped)} skipped, of {counted(shard.examples, 'image')}"
        )
    for i in range(len(found)):
        try:
            keys.append(_checked_key(found[i], spec, size))
        except Exception as error:  # ArrayRecord raises errors of many types
            yield f"{path}, record {i}: {error}"


def _misfits(spec: CacheSpec, keys: Sequence[tuple[int, str, Sequence[str]]]) -> Iterator[str]:
    """Yield every entry of the spec that whole shards with these sources and keys contradict."""
    count, multiple = sum(len(found) for *_, found in keys), spec.config.downsampling
    if count != spec.images:
        yield f"{NAME}: images is {spec.images}, but the shards have {counted(count, 'key')}"
    elif keys_sha256(keys) != spec.keys:
        yield f"{NAME}: the {counted(count, 'key')} of the shards are not those of the images"
    for size in spec.image_sizes:
        for name, side in (("height", size.height), ("width", size.width)):
            if side % multiple:
                yield f"{NAME}: {name} is {side}, but images have multiples of {multiple}"


def _checked_key(record: bytes, spec: CacheSpec, size: Bucket) -> str:
    values, about = parse(record)
    expected = spec.latent_shape(size)
    if (values.shape, values.dtype) != (expected, spec.storage_dtype):
        raise CacheError(
            f"{values.dtype} of shape {values.shape}, expected {spec.storage_dtype} of {expected}"
        )
    if not (np.abs(dequantize(values)) <= LATENT_LIMIT).all():
        raise CacheError(f"NaN or numbers beyond ±{LATENT_LIMIT}")
    return about["key"]


def _weights(source: LatentSource, weights: str | None) -> str:
    """Return the name or path of the weights, after comparing them with the cache's checksum."""
    name = weights or source.manifest.origin.weights
    beside = os.path.normpath(source.folder.resolve() / name)
    name = beside if weights is None and is_local(beside) else name
    sha256 = checksum(*files_of(find_checkpoint(name)))
    expected = source.manifest.spec.weights
    if sha256 != expected:
        raise CacheError(
            f"{name}: not the weights that made the cache\n"
            f"  cache: sha256 {expected}\n  given: sha256 {sha256}"
        )
    return name


def _examples(source: LatentSource, images: Sequence[Path] | None) -> dict[str, Example]:
    """Return the examples by key, after comparing the keys with the cache's checksum.

    Keys of caches that earlier code made are not compared: it found other images in some folders.
    """
    manifest, folder = source.manifest, source.folder.resolve()
    spec = manifest.spec
    places = images or [folder / name for name in manifest.origin.images]
    try:
        shards = find_examples(places, spec.per_shard, prefix_keys=spec.prefix_keys)
    except (AuraError, OSError) as error:
        raise CacheError(f"{error}; {ELSEWHERE}") from None
    if spec.encoding == ENCODING and keys_of(shards) != spec.keys:
        raise CacheError(f"the images are not those that were cached; {ELSEWHERE}")
    return {example.key: example for shard in shards for example in shard.examples}

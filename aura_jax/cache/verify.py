"""Is a cache what its manifest says, and would its pictures give the same latents again?"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from aura_jax.autoencoder import LATENT_LIMIT
from aura_jax.cache.encode import Bad, Encoder, Plan, read_picture
from aura_jax.cache.inputs import Picture, find_slices, fingerprint
from aura_jax.cache.manifest import Manifest, Shard
from aura_jax.cache.number_types import NUMPY_TYPES, restored, stored
from aura_jax.cache.record import stored_from_bytes
from aura_jax.cache.shard_files import Records, checksum, records
from aura_jax.cache.source import LatentSource
from aura_jax.errors import CacheError
from aura_jax.hub import find_checkpoint, is_local
from aura_jax.tolerances import REENCODED


def check_shards(source: LatentSource, progress: Callable[[int], None]) -> None:
    """Holds every file against the manifest: size, checksum, count, and each record's content.

    Args:
        source: the cache.
        progress: is told how many records have been read.

    Raises:
        CacheError: names everything that is wrong.
    """
    seen: dict[str, str] = {}
    problems = []
    for shard in source.manifest.shards:
        problems += _problems(source.folder / shard.file, shard, source.manifest, seen)
        progress(shard.count)
    if problems:
        raise CacheError("\n".join(problems))


def check_sample(source: LatentSource, count: int, weights: str | None = None) -> float:
    """Encodes pictures drawn at random once more.

    Args:
        source: the cache.
        count: how many pictures.
        weights: where the weights are, if not where they were.

    Returns:
        The largest relative L2 distance of a stored latent from the one made now.

    Raises:
        CacheError: if it is over the tolerance; or if the weights or pictures are not what or where
            they were.
    """
    plan, pictures = _plan(source, weights), _pictures(source)
    rng = np.random.default_rng()
    drawn = sorted(rng.choice(len(source), min(count, len(source)), replace=False).tolist())
    encoder, worst = Encoder(plan), 0.0
    for index in drawn:
        sample = source[index]
        result = read_picture(pictures[sample["key"]], plan)
        if isinstance(result, Bad):
            raise CacheError(f"{sample['key']}: the picture cannot be read now ({result.reason})")
        latent = np.asarray(encoder(result.pixels[None]))[0].astype(np.float32)
        again = restored(stored(latent, plan.dtype))
        distance = float(np.linalg.norm(sample["latent"] - again) / np.linalg.norm(again))
        if not distance <= REENCODED:
            raise CacheError(
                f"{sample['key']}: encoded anew its latent differs by {distance:.2g} "
                f"(relative L2), over {REENCODED}: the picture is not the one that was cached"
            )
        worst = max(worst, distance)
    return worst


def _problems(path: Path, shard: Shard, manifest: Manifest, seen: dict[str, str]) -> Iterator[str]:
    if not path.exists():
        yield f"{path}: missing"
        return
    if path.stat().st_size != shard.bytes:
        yield f"{path}: {path.stat().st_size} bytes, expected {shard.bytes}: truncated?"
    elif checksum(path) != shard.sha256:
        yield f"{path}: its sha256 is not the manifest's: damaged"
    if shard.count + len(shard.skipped) != shard.pictures:
        yield f"{path}: {shard.count} latents and {len(shard.skipped)} skipped, of {shard.pictures}"
    try:
        found = records(path, manifest.settings["format"])
        if len(found) != shard.count:
            yield f"{path}: holds {len(found)} records, expected {shard.count}"
    except CacheError as error:
        yield str(error)
        return
    for i in range(len(found)):
        yield from _record_problems(f"{path}, record {i}", found, i, manifest, seen)


def _record_problems(
    name: str, found: Records, index: int, manifest: Manifest, seen: dict[str, str]
) -> Iterator[str]:
    try:
        values, about = stored_from_bytes(found[index])
    except Exception as error:  # ArrayRecord's own are of many types
        yield f"{name}: cannot be read ({error})"
        return
    settings = manifest.settings
    scale = 2 ** (len(settings["config"]["ch_mult"]) - 1)
    shape = (settings["height"] // scale, settings["width"] // scale)
    expected = (*shape, settings["config"]["z_channels"]), NUMPY_TYPES[settings["dtype"]]
    if (values.shape, values.dtype) != expected:
        yield f"{name}: {values.dtype} of shape {values.shape}, expected {expected}"
    elif not (np.abs(restored(values)) <= LATENT_LIMIT).all():
        yield f"{name}: NaN or numbers beyond ±{LATENT_LIMIT}"
    if (first := seen.setdefault(about["key"], name)) != name:
        yield f"{name}: has the key {about['key']}, as {first} has"


def _plan(source: LatentSource, weights: str | None) -> Plan:
    manifest, folder = source.manifest, source.folder
    name = weights or manifest.origin.weights
    beside = os.path.normpath(folder.resolve() / name)
    name = beside if weights is None and is_local(beside) else name
    settings, sha256 = manifest.settings, checksum(find_checkpoint(name))
    if sha256 != settings["weights"]:
        raise CacheError(
            f"{name}: not the weights that made the cache\n"
            f"  cache: sha256 {settings['weights']}\n  given: sha256 {sha256}"
        )
    return Plan(
        out=folder,
        weights=name,
        compute=settings["compute"],
        size=(settings["height"], settings["width"]),
        resize=settings["crop"] is not None,
        dtype=settings["dtype"],
        format=settings["format"],
        batch=settings["batch"],
        max_bad=0,
    )


def _pictures(source: LatentSource) -> dict[str, Picture]:
    """The pictures by their keys, if they are where they were."""
    origin, folder = source.manifest.origin, source.folder
    try:
        paths = [Path(os.path.normpath(folder.resolve() / name)) for name in origin.sources]
        slices = find_slices(paths, origin.per_shard)
    except (CacheError, OSError) as error:
        raise CacheError(f"{error}; give --sample 0 to check without the pictures") from None
    if fingerprint(slices) != source.manifest.settings["keys"]:
        raise CacheError(
            "the pictures are not those that were cached: some are new, gone or renamed; "
            "give --sample 0 to check without them"
        )
    return {picture.key: picture for part in slices for picture in part.pictures}

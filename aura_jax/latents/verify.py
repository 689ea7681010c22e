"""Is a cache what its manifest says, and would its pictures give the same latents again?"""

import os
from collections.abc import Callable, Iterator, Sequence
from itertools import batched
from pathlib import Path

import numpy as np

from aura_jax.checkpoint.hub import find_checkpoint, is_local
from aura_jax.config import LATENT_LIMIT, AuraConfig
from aura_jax.errors import AuraError, CacheError
from aura_jax.images.transforms import Pixels8
from aura_jax.latents.encode_shard import Bad, Encoder, Plan, read_picture
from aura_jax.latents.examples import Picture, find_slices, keys_sha256
from aura_jax.latents.manifest import Manifest, Shard
from aura_jax.latents.quantize import NUMPY_TYPES, restored, stored
from aura_jax.latents.serialize import Sample, stored_from_bytes
from aura_jax.latents.shard_io import checksum, records
from aura_jax.latents.source import LatentSource

# A cached latent against one made anew, maybe by another device: bfloat16 is 1-2e-2 from exact on
# each, and a rounding may go to the other side of a step. Another picture is 1 or more away.
REENCODED = 5e-2

ELSEWHERE = "say where they are with --pictures, or give --sample 0 to check without them"
ADVICE = "\ndelete damaged files and run the same aura-jax cache command to make them anew"


def check_shards(source: LatentSource, progress: Callable[[int], None]) -> None:
    """Holds every file against the manifest: size, checksum, count, and each record's content.

    All keys together, of latents and of pictures that were left out, must be those that the cache
    was begun with: so nothing is missing, and nothing is there twice.

    Args:
        source: the cache.
        progress: is told how many records have been read.

    Raises:
        CacheError: names everything that is wrong.
    """
    manifest, keys, problems = source.manifest, [], []
    for shard in manifest.shards:
        keys.append([*shard.skipped])
        problems += _problems(source.folder / shard.file, shard, manifest, keys[-1])
        progress(shard.count)
    pictures, expected = sum(map(len, keys)), manifest.settings["pictures"]
    if not problems and keys_sha256(keys) != manifest.settings["keys"]:
        problems.append(
            f"{source.folder}: its {pictures} keys are not those of the {expected} pictures"
        )
    if problems:
        raise CacheError("\n".join(problems) + ADVICE)


def check_sample(
    source: LatentSource, count: int, weights: str | None, places: Sequence[Path] | None
) -> float:
    """Encodes pictures drawn at random once more.

    Args:
        source: the cache.
        count: how many pictures.
        weights: where the weights are, if not where they were.
        places: where the pictures' folders and tars are, if not where they were.

    Returns:
        The largest relative L2 distance of a stored latent from the one made now.

    Raises:
        CacheError: if it is over the tolerance; or if the weights or pictures are not what or where
            they were.
    """
    plan, pictures = _plan(source, weights), _pictures(source, places)
    rng = np.random.default_rng()
    drawn = sorted(rng.choice(len(source), min(count, len(source)), replace=False).tolist())
    encoder, worst = Encoder(plan), 0.0
    for indices in batched(drawn, plan.batch):
        samples = [source[index] for index in indices]
        pixels = [_pixels(pictures[sample["key"]], plan) for sample in samples]
        latents = np.asarray(encoder(np.stack(pixels)))[: len(samples)].astype(np.float32)
        for sample, latent in zip(samples, latents, strict=True):
            worst = max(worst, _distance(sample, restored(stored(latent, plan.dtype))))
    return worst


def _pixels(picture: Picture, plan: Plan) -> Pixels8:
    result = read_picture(picture, plan)
    if isinstance(result, Bad):
        raise CacheError(f"{picture.key}: the picture cannot be read now ({result.reason})")
    if result.pixels.shape[:2] != plan.size:
        raise CacheError(f"{picture.key}: the picture is of another size now")
    return result.pixels


def _distance(sample: Sample, again: np.ndarray) -> float:
    distance = float(np.linalg.norm(sample["latent"] - again) / np.linalg.norm(again))
    if not distance <= REENCODED:
        raise CacheError(
            f"{sample['key']}: encoded anew its latent differs by {distance:.2g} "
            f"(relative L2), over {REENCODED}: the picture is not the one that was cached"
        )
    return distance


def _problems(path: Path, shard: Shard, manifest: Manifest, keys: list[str]) -> Iterator[str]:
    """What is wrong with a file, whose keys are added to `keys`."""
    if not path.exists():
        yield f"{path}: missing"
        return
    if path.stat().st_size != shard.bytes:
        yield f"{path}: {path.stat().st_size} bytes, expected {shard.bytes}: truncated?"
    elif checksum(path) != shard.sha256:
        yield f"{path}: its sha256 is not the manifest's: damaged"
    try:
        found = records(path, manifest.settings["format"])
    except CacheError as error:
        yield str(error)
        return
    if len(found) != shard.count or len(found) + len(shard.skipped) != shard.pictures:
        yield (
            f"{path}: {len(found)} latents, expected {shard.count}; "
            f"with {len(shard.skipped)} left out, of {shard.pictures} pictures"
        )
    for i in range(len(found)):
        try:
            keys.append(_checked_key(found[i], manifest))
        except Exception as error:  # ArrayRecord's own are of many types
            yield f"{path}, record {i}: {error}"


def _checked_key(record: bytes, manifest: Manifest) -> str:
    values, about = stored_from_bytes(record)
    settings = manifest.settings
    scale = AuraConfig(**settings["config"]).downsampling
    shape = (settings["height"] // scale, settings["width"] // scale)
    expected = (*shape, settings["config"]["z_channels"]), NUMPY_TYPES[settings["dtype"]]
    if (values.shape, values.dtype) != expected:
        raise CacheError(f"{values.dtype} of shape {values.shape}, expected {expected}")
    if not (np.abs(restored(values)) <= LATENT_LIMIT).all():
        raise CacheError(f"NaN or numbers beyond ±{LATENT_LIMIT}")
    return about["key"]


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


def _pictures(source: LatentSource, places: Sequence[Path] | None) -> dict[str, Picture]:
    """The pictures by their keys, if they are those that were cached."""
    origin, folder = source.manifest.origin, source.folder.resolve()
    try:
        slices = find_slices(places or [folder / name for name in origin.sources], origin.per_shard)
    except (AuraError, OSError) as error:
        raise CacheError(f"{error}; {ELSEWHERE}") from None
    if (
        keys_sha256([p.key for p in part.pictures] for part in slices)
        != (source.manifest.settings["keys"])
    ):
        raise CacheError(f"the pictures are not those that were cached; {ELSEWHERE}")
    return {picture.key: picture for part in slices for picture in part.pictures}

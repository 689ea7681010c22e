"""The manifest of a cache: its spec, its origin, and the contents of each shard."""

import dataclasses
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from aura_jax.errors import CacheError, counted
from aura_jax.extras import needs
from aura_jax.latents.buckets import Bucket
from aura_jax.latents.json_file import read_json, to_builtins, write_json
from aura_jax.latents.spec import SHARD_FILE, CacheSpec
from aura_jax.latents.statistics import Statistics

with needs("cache"):
    import msgspec

VERSION = 2  # of the file's schema
NAME = "manifest.json"

type Count = Annotated[int, msgspec.Meta(ge=0, le=2**48)]  # above any disk; sums fit 64 bits


@dataclasses.dataclass(frozen=True)
class Shard:
    """The contents of one file of the cache.

    Attributes:
        file: its name in the cache's folder.
        source: the name of the folder or tar that its examples come from.
        examples: the number of examples, skipped ones included.
        count: the number of latents in the file: one for each image that could be read.
        clamped: the number of latent values that were clamped to the limit of ±8.
        bytes: the file's size.
        sha256: its checksum.
        skipped: the reason for each skipped image, by its key.
        problems: the number of label files and color profiles that could not be read, by kind.
        size: the size of its images, in a cache with buckets.
        parts: the number of files that the images of its folder or tar make, one for each size.

    Raises:
        CacheError: if `file` is not the name of a shard.
    """

    file: str
    source: str
    examples: Count
    count: Count
    clamped: Count
    bytes: Count
    sha256: str
    skipped: Mapping[str, str]
    problems: Mapping[str, Count] = dataclasses.field(default_factory=dict)
    size: Bucket | None = None
    parts: Count = 1

    def __post_init__(self) -> None:
        if not SHARD_FILE.fullmatch(self.file):  # other names could lead out of the folder
            raise CacheError(f"shard {self.file!r}: expected a name such as 00000.arrayrecord")

    @property
    def index(self) -> int:
        """The number of the tar or group of files that its images come from."""
        match = SHARD_FILE.fullmatch(self.file)
        assert match is not None
        return int(match["index"])


@dataclasses.dataclass(frozen=True)
class Origin:
    """The locations of weights and images when the cache was made, to find them again.

    Attributes:
        weights: a checkpoint in any form that `aura_jax.load` accepts; paths are relative to the
            cache.
        images: folders, tars and image files, relative to the cache.
    """

    weights: str
    images: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Environment:
    """The software and hardware that a cache was begun with, which affect rounding alone.

    Attributes:
        aura_jax: the version of this package.
        jax: the version of JAX.
        platform: the platform of the devices: "cpu", "gpu" or "tpu".
        batch: the number of images that were encoded at once.
    """

    aura_jax: str
    jax: str
    platform: str
    batch: Annotated[int, msgspec.Meta(ge=1)]


@dataclasses.dataclass(frozen=True)
class Manifest:
    """A finished cache.

    Attributes:
        spec: the contents that it was made for; only an equal spec may resume it.
        origin: the locations of weights and images.
        environment: the software and hardware; it is recorded but never compared.
        classes: the names of the folders that are labels, sorted.
        shards: the files, in the order of their samples.
        statistics: the result of `aura-jax cache stats`, if it has been run.
        left_out: the number of files that were not taken as images, by kind.
    """

    spec: CacheSpec
    origin: Origin
    environment: Environment
    classes: tuple[str, ...]
    shards: tuple[Shard, ...]
    statistics: Statistics | None = None
    left_out: Mapping[str, Count] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        channels = self.spec.config.z_channels
        if self.statistics is not None and len(self.statistics.mean) != channels:
            found = counted(len(self.statistics.mean), "channel")
            raise CacheError(f"statistics of {found}, but latents have {channels}")
        for shard in self.shards:
            if self.size_of(shard) not in self.spec.image_sizes:
                raise CacheError(f"shard {shard.file}: its size, {shard.size}, is not a bucket")

    def __len__(self) -> int:
        return sum(shard.count for shard in self.shards)

    def size_of(self, shard: Shard) -> Bucket:
        """Return the size of the images of a shard."""
        return shard.size or self.spec.image_sizes[0]

    def fits(self, shard: Shard) -> bool:
        """Return whether a shard has a size of the cache, and the file name of that size."""
        size = self.size_of(shard)
        return size in self.spec.image_sizes and shard.file == self.spec.file(shard.index, size)

    @property
    def buckets(self) -> dict[Bucket, int]:
        """The number of latents of each size."""
        counts = Counter(dict.fromkeys(self.spec.image_sizes, 0))
        for shard in self.shards:
            counts[self.size_of(shard)] += shard.count
        return dict(counts)

    @property
    def skipped(self) -> dict[str, str]:
        """The reasons for skipping images, by their keys."""
        return {key: why for shard in self.shards for key, why in shard.skipped.items()}

    @property
    def problems(self) -> dict[str, int]:
        """The number of label files and color profiles that could not be read, by kind."""
        return dict(sum((Counter(shard.problems) for shard in self.shards), Counter()))


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write a manifest into a folder, whole or not at all."""
    write_json(folder / NAME, {"version": VERSION, **to_builtins(manifest)})


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a finished cache.

    Raises:
        CacheError: if there is none, it has another version, or it cannot be read.
    """
    path = folder / NAME
    if not path.exists():
        raise CacheError(f"{folder}: not a finished cache of latents; it has no {NAME}")
    version = read_json(path, _Version).version
    if version == 1:
        raise CacheError(f"{path}: version 1, made by an earlier aura-jax; make the cache again")
    if version != VERSION:
        raise CacheError(
            f"{path}: version {version}, but this aura-jax reads version {VERSION}; update it"
        )
    return read_json(path, Manifest)


@dataclasses.dataclass(frozen=True)
class _Version:
    version: Annotated[int, msgspec.Meta(ge=1)]

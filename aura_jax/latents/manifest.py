"""The manifest of a cache: what was made, from what, and what each shard holds."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from aura_jax.dtypes import as_dtype
from aura_jax.errors import CacheError
from aura_jax.extras import needs
from aura_jax.files import replacing
from aura_jax.latents.spec import STORAGE_DTYPES, CacheSpec
from aura_jax.latents.statistics import Statistics

with needs("cache"):
    import msgspec

VERSION = 2  # of the file's form
NAME = "manifest.json"

type Count = Annotated[int, msgspec.Meta(ge=0)]


@dataclasses.dataclass(frozen=True)
class Shard:
    """The contents of one file of the cache.

    Attributes:
        file: its name in the cache's folder.
        source: the name of the folder or tar that its examples are from.
        examples: how many those are.
        count: how many latents the file holds: one for each image that could be read.
        clamped: how many of their numbers were at the limit of ±8, or beyond.
        bytes: the file's size.
        sha256: its checksum.
        skipped: why each other image was skipped, by its key.
    """

    file: str
    source: str
    examples: Count
    count: Count
    clamped: Count
    bytes: Count
    sha256: str
    skipped: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where weights and images were, to find them again; it decides nothing about the latents.

    Attributes:
        weights: as `aura_jax.load` takes them, a path being relative to the cache.
        images: folders, tars and image files, relative to the cache.
    """

    weights: str
    images: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Environment:
    """What a cache was begun with that may only change how numbers are rounded.

    Attributes:
        aura_jax: the version of this package.
        jax: the version of JAX.
        platform: of the devices: "cpu", "gpu" or "tpu".
        batch: how many images were encoded at once.
    """

    aura_jax: str
    jax: str
    platform: str
    batch: Annotated[int, msgspec.Meta(ge=1)]


@dataclasses.dataclass(frozen=True)
class Manifest:
    """A finished cache.

    Attributes:
        spec: what it was made to hold. A cache is only continued with an equal one.
        origin: where weights and images were.
        environment: what it was made with; it is recorded, and never compared.
        classes: the names of the folders that are labels, sorted.
        shards: the files, in the order of their samples.
        statistics: what `aura-jax cache stats` measured.
    """

    spec: CacheSpec
    origin: Origin
    environment: Environment
    classes: tuple[str, ...]
    shards: tuple[Shard, ...]
    statistics: Statistics | None = None

    def __len__(self) -> int:
        return sum(shard.count for shard in self.shards)

    @property
    def skipped(self) -> dict[str, str]:
        """Why images were skipped, by their keys."""
        return {key: why for shard in self.shards for key, why in shard.skipped.items()}


def write_json(path: Path, value: Any) -> None:
    """Write a dataclass as JSON, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(msgspec.json.format(msgspec.json.encode(value), indent=1) + b"\n")


def read_json[T](path: Path, kind: type[T]) -> T:
    """Read a dataclass that was written as JSON.

    Raises:
        CacheError: if the file cannot be read, or does not hold one.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind, dec_hook=_decoded)
    except (OSError, ValueError, RecursionError) as error:
        raise CacheError(
            f"{path}: cannot be read ({error}); restore it from a copy, or make the cache again in "
            "an empty folder"
        ) from None


def as_json(value: Any) -> Any:
    """Convert a dataclass to what its JSON consists of: dictionaries, lists, text and numbers."""
    return msgspec.to_builtins(value, enc_hook=str)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write a manifest into a folder, whole or not at all."""
    write_json(folder / NAME, {"version": VERSION, **as_json(manifest)})


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
        raise CacheError(f"{path}: of version 1, made by an earlier aura-jax; make the cache again")
    if version != VERSION:
        raise CacheError(
            f"{path}: of version {version}, but this aura-jax reads version {VERSION}; update it"
        )
    return read_json(path, Manifest)


@dataclasses.dataclass(frozen=True)
class _Version:
    version: Annotated[int, msgspec.Meta(ge=1)]


def _decoded(kind: type, value: Any) -> Any:
    """Decode the one type that JSON and msgspec do not know."""
    assert kind is np.dtype
    return as_dtype(value, STORAGE_DTYPES)

"""The manifest of a cache: which weights made it, from what and how, and what each shard holds."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aura_jax.cache.statistics import Statistics
from aura_jax.errors import CacheError
from aura_jax.files import replacing

VERSION = 1  # of the format; a reader refuses newer ones
NAME = "manifest.json"

type Settings = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Shard:
    """What one file of the cache holds.

    Attributes:
        file: its name in the cache's folder.
        source: the folder or tar that its pictures are from.
        pictures: how many those are.
        count: how many latents the file holds: the pictures that could be read.
        clamped: how many of their numbers were at the limit of ±8, or beyond.
        bytes: its size.
        sha256: its checksum.
        skipped: why each other picture was left out, by its key.
    """

    file: str
    source: str
    pictures: int
    count: int
    clamped: int
    bytes: int
    sha256: str
    skipped: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Origin:
    """What the command was given; other names for the same things make the same cache.

    Attributes:
        weights: as `aura_jax.load` takes them, a path being relative to the cache.
        sources: folders, tars and pictures, relative to the cache.
        per_shard: how many files made a slice.
    """

    weights: str
    sources: tuple[str, ...]
    per_shard: int


@dataclasses.dataclass(frozen=True)
class Manifest:
    """A finished cache.

    Attributes:
        settings: all that decides what the latents are; caches of equal settings are equal.
        origin: where weights and pictures were.
        classes: the names of the folders that are labels, sorted.
        shards: the files, in the order of their samples.
        statistics: what `aura-jax cache stats` found.
    """

    settings: Settings
    origin: Origin
    classes: tuple[str, ...]
    shards: tuple[Shard, ...]
    statistics: Statistics | None = None

    def __len__(self) -> int:
        return sum(shard.count for shard in self.shards)

    @property
    def skipped(self) -> dict[str, str]:
        """Why pictures were left out, by their keys."""
        return {key: why for shard in self.shards for key, why in shard.skipped.items()}


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Puts a manifest into a folder, whole or not at all."""
    content = {"version": VERSION, **dataclasses.asdict(manifest)}
    with replacing(folder / NAME) as path:
        path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a finished cache.

    Raises:
        CacheError: if there is none, or one of a newer version, or one that is not sound.
    """
    path = folder / NAME
    if not path.exists():
        raise CacheError(f"{folder}: no finished cache of latents; it has no {NAME}")
    try:
        content = json.loads(path.read_text())
        version = content.pop("version")
        if version > VERSION:
            raise CacheError(
                f"{path}: of version {version}, and this aura-jax reads up to {VERSION}; update it"
            )
        return _parsed(**content)
    except CacheError:
        raise
    except (OSError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise CacheError(f"{path}: not a sound manifest ({error})") from None


def _parsed(
    settings: Any, origin: Any, classes: Any, shards: Any, statistics: Any = None
) -> Manifest:
    return Manifest(
        settings=settings,
        origin=Origin(origin["weights"], tuple(origin["sources"]), origin["per_shard"]),
        classes=tuple(classes),
        shards=tuple(Shard(**shard) for shard in shards),
        statistics=None if statistics is None else Statistics.from_json(statistics),
    )

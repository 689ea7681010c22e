"""The manifest of a cache: which weights made it, from what and how, and what each shard holds."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aura_jax.config import AuraConfig
from aura_jax.errors import CacheError
from aura_jax.files import replacing
from aura_jax.latents.spec import COMPUTE_TYPES, FORMATS, NUMBER_TYPES
from aura_jax.latents.statistics import Statistics

VERSION = 1  # of the format; a reader refuses newer ones
NAME = "manifest.json"

CHOICES = {"dtype": NUMBER_TYPES, "compute": COMPUTE_TYPES, "format": FORMATS}

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

    def __post_init__(self) -> None:
        texts = (self.file, self.source, self.sha256, *self.skipped.keys(), *self.skipped.values())
        counts = (self.pictures, self.count, self.clamped, self.bytes)
        if not all(isinstance(text, str) for text in texts):
            raise CacheError(f"shard {self.file!r}: expected names and reasons as text")
        if not all(type(count) is int and count >= 0 for count in counts):
            raise CacheError(f"shard {self.file!r}: expected counts of 0 or more, got {counts}")


@dataclasses.dataclass(frozen=True)
class Origin:
    """What the command was given, to find it again; it decides nothing of the latents.

    Attributes:
        weights: as `aura_jax.load` takes them, a path being relative to the cache.
        sources: folders, tars and pictures, relative to the cache.
        per_shard: how many files made a slice.
    """

    weights: str
    sources: tuple[str, ...]
    per_shard: int

    def __post_init__(self) -> None:
        if not all(isinstance(name, str) for name in (self.weights, *self.sources)):
            raise CacheError(f"origin {self}: expected names of weights and sources")
        if type(self.per_shard) is not int or self.per_shard < 1:
            raise CacheError(f"origin {self}: expected per_shard of 1 or more")


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
        if type(version) is int and version > VERSION:
            raise CacheError(
                f"of version {version}, and this aura-jax reads up to {VERSION}; update it"
            )
        if version != VERSION:
            raise ValueError(f"version {version!r}")
        return _parsed(**content)
    except CacheError as error:
        raise CacheError(f"{path}: {error}") from None
    except (OSError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise CacheError(f"{path}: not a sound manifest ({error})") from None


def _parsed(
    settings: Any, origin: Any, classes: Any, shards: Any, statistics: Any = None
) -> Manifest:
    _check_settings(settings)
    return Manifest(
        settings=settings,
        origin=Origin(**{**origin, "sources": tuple(origin["sources"])}),
        classes=tuple(classes),
        shards=tuple(Shard(**shard) for shard in shards),
        statistics=None if statistics is None else Statistics.from_json(statistics),
    )


def _check_settings(settings: Any) -> None:
    """Refuses settings without what reading and verifying ask of them."""
    AuraConfig(**settings["config"])
    numbers = [settings[name] for name in ("height", "width", "batch", "pictures")]
    if not all(type(number) is int and number > 0 for number in numbers):
        raise ValueError(f"height, width, batch, pictures of {numbers}")
    for name, choices in CHOICES.items():
        if settings[name] not in choices:
            raise ValueError(f"{name} {settings[name]!r}")
    if not all(isinstance(settings[name], str) for name in ("weights", "keys")):
        raise ValueError("no checksums of weights and keys")

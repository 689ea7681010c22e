"""What is to be cached: pictures with keys and labels, in slices that become one shard each."""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import batched, groupby
from pathlib import Path, PurePosixPath
from typing import Any

from aura_jax.errors import CacheError, ImageError
from aura_jax.files import visible_files
from aura_jax.images import is_picture_name
from aura_jax.photo_files import Photo, is_tar, members

LABELS = ("cls", "json", "txt")  # endings of what a tar holds beside a picture


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture of a data set.

    Attributes:
        key: its name, unique in the data set: the path without its ending.
        photo: where its bytes lie.
        label: the name of its folder, if its data set has folders.
        notes: by ending, where the labels lie that a tar holds beside it.
    """

    key: str
    photo: Photo
    label: str | None = None
    notes: tuple[tuple[str, Photo], ...] = ()

    def about(self) -> dict[str, Any]:
        """Its key, its label, and the labels of a tar, each under its ending.

        The label is the first of: the folder's name, cls (a number where it is one), "label" of
        json, txt.

        Raises:
            ImageError: if a label cannot be read.
        """
        about = {ending: _read(self.key, ending, note) for ending, note in self.notes}
        document = about.get("json")
        in_json = document.get("label") if isinstance(document, dict) else None
        labels = (self.label, about.get("cls"), in_json, about.get("txt"))
        label = next((label for label in labels if label is not None), None)
        return {"key": self.key, **({} if label is None else {"label": label}), **about}


@dataclasses.dataclass(frozen=True)
class Slice:
    """The pictures of one shard, which has the number `index`."""

    index: int
    source: str
    pictures: tuple[Picture, ...]


def find_slices(sources: Sequence[Path], per_shard: int) -> list[Slice]:
    """The pictures of folders, tars and files: a slice for each tar, or `per_shard` files.

    Args:
        sources: folders (of pictures and tars, at any depth), tars in WebDataset's form, pictures.
        per_shard: how many files make a slice; a tar is one whatever it holds.

    Raises:
        CacheError: if a source does not exist or holds no pictures, or two pictures have one key.
        ImageError: if a tar cannot be read.
    """
    parts = [part for source in sources for part in _slices(source, per_shard)]
    _check_keys([picture for _, pictures in parts for picture in pictures])
    return [Slice(i, name, pictures) for i, (name, pictures) in enumerate(parts)]


def fingerprint(slices: Iterable[Slice]) -> str:
    """A sha256 of all keys and of how they are sliced."""
    keys = [[picture.key for picture in part.pictures] for part in slices]
    return hashlib.sha256(json.dumps(keys).encode()).hexdigest()


def _slices(source: Path, per_shard: int) -> Iterator[tuple[str, tuple[Picture, ...]]]:
    if not source.exists():
        raise CacheError(f"{source}: no such folder, tar or picture")
    folder = source if source.is_dir() else source.parent
    files = visible_files(source) if source.is_dir() else [source]
    tars = [path for path in files if is_tar(path)]
    pictures = [path for path in files if is_picture_name(path)]
    if not tars and not pictures:
        raise CacheError(f"{source}: no pictures found, in it or below it or in tars there")
    for tar in tars:
        yield tar.name, tuple(_in_tar(tar))
    labelled = source.is_dir() and any(path.parent != folder for path in pictures)
    for paths in batched(pictures, per_shard):
        yield source.name, tuple(_in_folder(path, folder, labelled=labelled) for path in paths)


def _in_folder(path: Path, folder: Path, *, labelled: bool) -> Picture:
    place = path.relative_to(folder)
    label = (path.parent.name if path.parent != folder else "") if labelled else None
    return Picture(place.with_suffix("").as_posix(), Photo(path), label)


def _in_tar(path: Path) -> Iterator[Picture]:
    """Members whose paths agree up to the first dot of their names are one sample."""
    found = False
    for key, parts in groupby(members(path), lambda member: _key_and_ending(member[0])[0]):
        photos, notes = [], []
        for name, place in parts:
            ending = _key_and_ending(name)[1]
            if ending in LABELS:
                notes.append((ending, place))
            elif is_picture_name(Path(name)):
                photos.append(place)
        if len(photos) > 1:
            names = ", ".join(str(photo.member) for photo in photos)
            raise CacheError(f"{path}: one sample with several pictures: {names}")
        for photo in photos:
            found = True
            yield Picture(key, photo, None, tuple(notes))
    if not found:
        raise CacheError(f"{path}: a tar without pictures")


def _key_and_ending(name: str) -> tuple[str, str]:
    place = PurePosixPath(name)
    stem, _, ending = place.name.partition(".")
    return (place.parent / stem).as_posix(), ending.lower()


def _check_keys(pictures: Sequence[Picture]) -> None:
    first: dict[str, Photo] = {}
    for picture in pictures:
        other = first.setdefault(picture.key, picture.photo)
        if other is not picture.photo:
            raise CacheError(
                f"key {picture.key}: two pictures have it, {other} and {picture.photo}; "
                "rename one, or cache them apart"
            )


def _read(key: str, ending: str, note: Photo) -> Any:
    try:
        text = note.read().decode().strip()
        if ending == "json":
            return json.loads(text)
        return int(text) if ending == "cls" and text.lstrip("-").isdecimal() else text
    except (OSError, ValueError, RecursionError) as error:
        raise ImageError(f"{key}.{ending}: cannot be read ({error})") from None

"""What is to be cached: pictures with keys and labels, in slices that become one shard each."""

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import batched, groupby
from pathlib import Path, PurePosixPath
from typing import Any

from aura_jax.errors import CacheError, ImageError
from aura_jax.images.io import is_image_name
from aura_jax.images.readers import ImageFile, is_tar, members, visible_files

WHOLE_NUMBER = re.compile(r"[+-]?\d+", re.ASCII)
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
    photo: ImageFile
    label: str | None = None
    notes: tuple[tuple[str, ImageFile], ...] = ()

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
        CacheError: if a source does not exist, holds no pictures or lies within another one, files
            of a sample are not together in a tar, or two pictures have one key.
        ImageError: if a tar cannot be read.
    """
    places = [Path(os.path.normpath(source.absolute())) for source in sources]
    _check_apart(places)
    parts = [part for place in places for part in _slices(place, per_shard)]
    _check_keys([picture for _, pictures in parts for picture in pictures])
    return [Slice(i, name, pictures) for i, (name, pictures) in enumerate(parts)]


def keys_sha256(keys: Iterable[Iterable[str]]) -> str:
    """A checksum of the keys of each slice, in any order within it."""
    return hashlib.sha256(json.dumps([sorted(each) for each in keys]).encode()).hexdigest()


def sizes_sha256(slices: Iterable[Slice]) -> str:
    """A checksum of the sizes of all pictures in bytes: most changes of a picture change it."""
    sizes = [[_size(picture.photo) for picture in part.pictures] for part in slices]
    return hashlib.sha256(json.dumps(sizes).encode()).hexdigest()


def _size(photo: ImageFile) -> int:
    return photo.path.lstat().st_size if photo.member is None else photo.size


def _slices(source: Path, per_shard: int) -> Iterator[tuple[str, tuple[Picture, ...]]]:
    if not source.exists():
        raise CacheError(f"{source}: no such folder, tar or picture")
    folder = source if source.is_dir() else source.parent
    files = visible_files(source) if source.is_dir() else [source]
    tars = [path for path in files if is_tar(path)]
    pictures = [path for path in files if is_image_name(path)]
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
    return Picture(place.with_suffix("").as_posix(), ImageFile(path), label)


def _in_tar(path: Path) -> Iterator[Picture]:
    """Members whose paths agree up to the first dot of their names are one sample."""
    seen: set[str] = set()
    found = False
    for key, parts in groupby(members(path), lambda member: _key_and_ending(member[0])[0]):
        if key in seen:
            raise CacheError(f"{path}: files of the sample {key} are not together; pack it anew")
        seen.add(key)
        picture = _sample(path, key, [place for _, place in parts])
        if picture is not None:
            found = True
            yield picture
    if not found:
        raise CacheError(f"{path}: a tar without pictures")


def _sample(path: Path, key: str, places: Sequence[ImageFile]) -> Picture | None:
    """A picture with its labels, out of files of one key; None if no picture is among them."""
    endings = [(_key_and_ending(str(place.member))[1], place) for place in places]
    notes = [(ending, place) for ending, place in endings if ending in LABELS]
    photos = [p for e, p in endings if e not in LABELS and is_image_name(Path(str(p.member)))]
    if len(photos) > 1 or len({ending for ending, _ in notes}) < len(notes):
        names = ", ".join(str(place.member) for place in places)
        raise CacheError(f"{path}: one sample with several pictures or labels of a kind: {names}")
    return Picture(key, photos[0], None, tuple(notes)) if photos else None


def _key_and_ending(name: str) -> tuple[str, str]:
    place = PurePosixPath(name)
    stem, _, ending = place.name.partition(".")
    return (place.parent / stem).as_posix(), ending.lower()


def _check_apart(sources: Sequence[Path]) -> None:
    places = [source.resolve() for source in sources]
    for source, place in zip(sources, places, strict=True):
        if places.count(place) > 1 or {*places} & {*place.parents}:
            raise CacheError(f"{source}: given twice, or lies within another source")


def _check_keys(pictures: Sequence[Picture]) -> None:
    first: dict[str, ImageFile] = {}
    for picture in pictures:
        other = first.setdefault(picture.key, picture.photo)
        if other is not picture.photo:
            raise CacheError(
                f"key {picture.key}: two pictures have it, {other} and {picture.photo}; "
                "rename one, or cache them apart"
            )


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _read(key: str, ending: str, note: ImageFile) -> Any:
    data = note.read()
    try:
        text = data.decode().strip()
        if ending == "json":
            return json.loads(text, parse_constant=_refuse)
        return int(text) if ending == "cls" and WHOLE_NUMBER.fullmatch(text) else text
    except (ValueError, RecursionError) as error:
        raise ImageError(f"{key}.{ending}: cannot be read ({error})") from None

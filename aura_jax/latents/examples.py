"""Find the examples of a data set: image files with keys and labels, grouped by shard."""

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
from aura_jax.images.readers import ImageFile, find_files, is_tar, members

WHOLE_NUMBER = re.compile(r"[+-]?\d+", re.ASCII)
LABELS = ("cls", "json", "txt")  # endings of label files beside an image in a tar


@dataclasses.dataclass(frozen=True)
class Example:
    """An image file with its key and label.

    Attributes:
        key: its name, unique in the data set: the path without its ending.
        image: the location of its bytes.
        label: the name of its folder, if the data set has folders.
        notes: the endings and locations of the label files beside it in a tar.
    """

    key: str
    image: ImageFile
    label: str | None = None
    notes: tuple[tuple[str, ImageFile], ...] = ()

    def about(self) -> dict[str, Any]:
        """Return the key and label, and the contents of label files under their endings.

        The label is the first of these that exists: the folder's name, cls (converted to a number
        if possible), "label" in json, txt.

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
class ShardInput:
    """The examples of one shard.

    Attributes:
        index: the shard's number.
        source: the name of the folder or tar that the examples come from.
        examples: the examples, in the order of the shard.
    """

    index: int
    source: str
    examples: tuple[Example, ...]


def find_examples(places: Sequence[Path], per_shard: int) -> list[ShardInput]:
    """Find the examples of folders, tars and image files, grouped by shard.

    Args:
        places: folders (of image files and tars, at any depth), WebDataset tars, image files.
        per_shard: the number of files of a folder in each shard; each tar makes exactly one.

    Raises:
        CacheError: if a place lies within another one, the files of an example are not next to each
            other in a tar, or two examples have the same key.
        ImageError: if a place does not exist or holds no images, or a tar cannot be read.
    """
    absolute = [Path(os.path.normpath(place.absolute())) for place in places]
    _check_apart(absolute)
    groups = [group for place in absolute for group in _groups(place, per_shard)]
    _check_keys([example for _, examples in groups for example in examples])
    return [ShardInput(i, source, examples) for i, (source, examples) in enumerate(groups)]


def keys_sha256(groups: Iterable[tuple[str, Iterable[str]]]) -> str:
    """Compute a checksum of the keys of each tar, and of each run of other shards between tars.

    The order of keys within a tar or run, and the division of a folder into shards, do not change
    it.

    Args:
        groups: the source and keys of each shard.
    """
    numbered = enumerate(groups)
    joined = groupby(numbered, lambda group: group[0] if is_tar(Path(group[1][0])) else -1)
    keys = [sorted(key for _, (_, part) in parts for key in part) for _, parts in joined]
    return hashlib.sha256(json.dumps(keys).encode()).hexdigest()


def sizes_sha256(shards: Iterable[ShardInput]) -> str:
    """Compute a checksum of the sizes of image files in bytes, which reveals most changes."""
    sizes = [_size(example.image) for shard in shards for example in shard.examples]
    return hashlib.sha256(json.dumps(sizes).encode()).hexdigest()


def _size(image: ImageFile) -> int:
    return image.path.lstat().st_size if image.member is None else image.size


def _groups(place: Path, per_shard: int) -> Iterator[tuple[str, tuple[Example, ...]]]:
    files = find_files(place)
    for tar in filter(is_tar, files):
        yield tar.name, tuple(_in_tar(tar))
    folder = place if place.is_dir() else place.parent
    images = [path for path in files if not is_tar(path)]
    labeled = any(path.parent != folder for path in images)
    for paths in batched(images, per_shard):
        yield place.name, tuple(_in_folder(path, folder, labeled=labeled) for path in paths)


def _in_folder(path: Path, folder: Path, *, labeled: bool) -> Example:
    label = (path.parent.name if path.parent != folder else "") if labeled else None
    key = path.relative_to(folder).with_suffix("").as_posix()
    return Example(key, ImageFile(path), label)


def _in_tar(path: Path) -> Iterator[Example]:
    """Group members whose paths agree up to the first dot in the file name, as WebDataset does."""
    seen: set[str] = set()
    found = False
    for key, parts in groupby(members(path), lambda member: _key_and_ending(member[0])[0]):
        if key in seen:
            raise CacheError(
                f"{path}: files of the example {key} are not next to each other; pack the tar again"
            )
        seen.add(key)
        example = _joined(path, key, [place for _, place in parts])
        if example is not None:
            found = True
            yield example
    if not found:
        raise CacheError(f"{path}: a tar without images")


def _joined(path: Path, key: str, places: Sequence[ImageFile]) -> Example | None:
    """Join the files of one key into an example; return None if none of them is an image."""
    endings = [(_key_and_ending(str(place.member))[1], place) for place in places]
    notes = [(ending, place) for ending, place in endings if ending in LABELS]
    images = [p for e, p in endings if e not in LABELS and is_image_name(Path(str(p.member)))]
    if len(images) > 1 or len({ending for ending, _ in notes}) < len(notes):
        names = ", ".join(str(place.member) for place in places)
        raise CacheError(f"{path}: one example with several images or labels of a kind: {names}")
    return Example(key, images[0], None, tuple(notes)) if images else None


def _key_and_ending(name: str) -> tuple[str, str]:
    place = PurePosixPath(name)
    stem, _, ending = place.name.partition(".")
    return (place.parent / stem).as_posix(), ending.lower()


def _check_apart(places: Sequence[Path]) -> None:
    resolved = [place.resolve() for place in places]
    for place, target in zip(places, resolved, strict=True):
        if resolved.count(target) > 1 or {*resolved} & {*target.parents}:
            raise CacheError(f"{place}: given twice, or lies within another place that is given")


def _check_keys(examples: Sequence[Example]) -> None:
    first: dict[str, ImageFile] = {}
    for example in examples:
        other = first.setdefault(example.key, example.image)
        if other is not example.image:
            raise CacheError(
                f"key {example.key}: two images have it, {other} and {example.image}; "
                "rename one, or make a cache of each"
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

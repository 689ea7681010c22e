"""Find the examples of a data set: image files with keys and labels, grouped by shard."""

import dataclasses
import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import batched, groupby
from pathlib import Path
from typing import Any

from aura_jax.errors import CacheError, listed, printable
from aura_jax.files import check_apart
from aura_jax.images.left_out import without_ending
from aura_jax.images.readers import ImageFile, find_files, in_tar
from aura_jax.images.tars import is_tar
from aura_jax.images.webdataset import Members, by_key, key_and_ending, kind_in_tar
from aura_jax.latents.labels import LABELS, read_label


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

    def about(self, problems: Counter[str]) -> dict[str, Any]:
        """Return the key and label, and the contents of label files under their endings.

        The label is the first of these that exists: the folder's name, cls (converted to a number
        if possible), "label" in json, txt.

        Args:
            problems: receives the number of labels that cannot be read, by kind, see `read_label`.

        Raises:
            OSError: if the tar cannot be read.
        """
        found = {ending: read_label(ending, note, problems) for ending, note in self.notes}
        about = {ending: content for ending, content in found.items() if content is not None}
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


def find_examples(
    places: Sequence[Path],
    per_shard: int,
    *,
    prefix_keys: bool = False,
    left_out: Counter[str] | None = None,
) -> list[ShardInput]:
    """Find the examples of folders, tars and image files, grouped by shard.

    Args:
        places: folders (of image files and tars, at any depth), WebDataset tars, image files.
        per_shard: the number of files of a folder in each shard; each tar makes exactly one.
        prefix_keys: whether keys in a tar begin with the tar's name, or its path in the folder.
        left_out: receives the number of files that are not taken, by kind.

    Raises:
        CacheError: if a place lies within another one, the files of an example are not next to each
            other in a tar, or two examples have the same key.
        ImageError: if a place does not exist or holds no images, or a tar cannot be read.
    """
    absolute = [Path(os.path.normpath(place.absolute())) for place in places]
    left_out = Counter() if left_out is None else left_out
    check_apart(absolute, CacheError)
    finder = _Finder(per_shard, prefix_keys, left_out)
    groups = [group for place in absolute for group in finder.groups(place)]
    _check_keys([example for _, examples in groups for example in examples])
    return [ShardInput(i, source, examples) for i, (source, examples) in enumerate(groups)]


def keys_sha256(groups: Iterable[tuple[int, str, Iterable[str]]]) -> str:
    """Compute a checksum of the keys of each tar, and of each run of other shards between tars.

    The order of keys within a tar or run, and the division of a folder into shards, do not change
    it.

    Args:
        groups: the number, source and keys of each shard; those of a tar have the same number.
    """
    joined = groupby(groups, lambda group: group[0] if is_tar(Path(group[1])) else -1)
    keys = [sorted(key for _, _, part in parts for key in part) for _, parts in joined]
    return hashlib.sha256(json.dumps(keys).encode()).hexdigest()


def keys_of(shards: Iterable[ShardInput]) -> str:
    """Compute the checksum of the keys of shards that are still to be made."""
    return keys_sha256((each.index, each.source, [e.key for e in each.examples]) for each in shards)


def sizes_sha256(shards: Iterable[ShardInput]) -> str:
    """Compute a checksum of the sizes of image files in bytes, which reveals most changes."""
    sizes = [_size(example.image) for shard in shards for example in shard.examples]
    return hashlib.sha256(json.dumps(sizes).encode()).hexdigest()


def _size(image: ImageFile) -> int:
    return image.path.lstat().st_size if image.member is None else image.size


@dataclasses.dataclass(frozen=True)
class _Finder:
    """Find the examples of places, with the options of `find_examples`."""

    per_shard: int
    prefix_keys: bool
    left_out: Counter[str]

    def groups(self, place: Path) -> Iterator[tuple[str, tuple[Example, ...]]]:
        """Yield the name and the examples of each shard of a place."""
        files = find_files(place, self.left_out)
        folder = place if place.is_dir() else place.parent
        for tar in filter(is_tar, files):
            name = _below(tar, folder).removesuffix(tar.suffix)
            prefix = f"{name}/" if self.prefix_keys else ""
            yield _text(tar.name), tuple(self._in_tar(tar, prefix))
        images = [(path, _below(path, folder)) for path in files if not is_tar(path)]
        labeled = any("/" in name for _, name in images)
        for group in batched(images, self.per_shard):
            found = tuple(_in_folder(path, name, labeled=labeled) for path, name in group)
            yield _text(place.name), found

    def _in_tar(self, path: Path, prefix: str) -> Iterator[Example]:
        seen: set[str] = set()
        found = False
        for key, images, others in by_key(path, self.left_out):
            if key in seen:
                raise CacheError(
                    f"{path}: files of the example {printable(key)} are not next to each other; "
                    "pack the tar again"
                )
            seen.add(key)
            notes = [each for each in others if _label_ending(each.name) in LABELS]
            endings = [_label_ending(note.name) for note in notes]
            if len(images) > 1 or len({*endings}) < len(endings):
                raise CacheError(_several(path, images + notes))
            unused = others if not images else [each for each in others if each not in notes]
            self.left_out.update(map(kind_in_tar, unused))
            for image in images:
                found = True
                places = (in_tar(path, note) for note in notes)
                pairs = tuple(zip(endings, places, strict=True))
                yield Example(_text(prefix + key), in_tar(path, image), None, pairs)
        if not found:
            raise CacheError(f"{path}: a tar without images")


def _label_ending(name: str) -> str:
    return key_and_ending(name)[1]


def _below(path: Path, folder: Path) -> str:
    """Return a path relative to a folder above it; Path.relative_to is far slower."""
    return _text(str(path).removeprefix(str(folder)).lstrip("/"))


def _in_folder(path: Path, name: str, *, labeled: bool) -> Example:
    """Label an image with the first folder under the root, as torchvision's ImageFolder does."""
    above, slash, last = name.rpartition("/")
    label = above.partition("/")[0] if labeled else None
    return Example(above + slash + without_ending(last), ImageFile(path), label)


def _text(name: str) -> str:
    """Escape the bytes of a name that are not UTF-8, which a manifest cannot hold."""
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")


def _several(path: Path, members: Members) -> str:
    names = listed(member.name for member in members)
    return f"{path}: one example with several images or labels of a kind: {names}; rename them"


def _check_keys(examples: Sequence[Example]) -> None:
    first: dict[str, ImageFile] = {}
    for example in examples:
        other = first.setdefault(example.key, example.image)
        if other is not example.image:
            raise CacheError(
                f"key {printable(example.key)}: two images have it, {other} and {example.image}; "
                "rename one, make a cache of each, or, if they are in different tars, begin keys "
                "with the tar's name: --prefix-keys"
            )

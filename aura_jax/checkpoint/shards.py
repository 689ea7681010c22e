"""Find and open checkpoints in folders, whose tensors may be spread over several files."""

import dataclasses
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath
from typing import Any

from aura_jax.checkpoint.tensors import (
    CONFIG_FILE,
    MAX_HEADER,
    StoredCheckpoint,
    open_safetensors,
)
from aura_jax.errors import CheckpointError, counted, listed, printable

INDEX_ENDING = ".safetensors.index.json"
SAFETENSORS, PICKLES = ".safetensors", (".pt", ".pth", ".ckpt")
SHARD = re.compile(r".*-\d{5}-of-\d{5}\.safetensors")
MAX_SHARDS = 1000

type Index = Mapping[str, list[str]]  # the names of tensors by the name of their file


def choose(names: Iterable[str], place: str) -> str:
    """Choose the checkpoint among the files of a folder or repository.

    It is the only index of shards or safetensors file. If there is neither, it is the only file
    with the ending of a pickle.

    Raises:
        CheckpointError: if there is none, or more than one.
    """
    files = [*names]
    safetensors = [
        name
        for name in files
        if name.endswith(INDEX_ENDING) or (name.endswith(SAFETENSORS) and not SHARD.match(name))
    ]
    found = sorted(safetensors or [name for name in files if name.endswith(PICKLES)])
    if len(found) != 1:
        raise CheckpointError(
            f"{place}: holds {listed(found) or 'no checkpoint'}; name one file as {place}/FILE"
        )
    return found[0]


def open_checkpoint(path: Path) -> StoredCheckpoint:
    """Open a safetensors file, or all shards that an index names, and config.json beside it.

    Raises:
        CheckpointError: if a file is missing or damaged, or the index and its shards disagree.
    """
    stored = _open_shards(path) if path.name.endswith(INDEX_ENDING) else open_safetensors(path)
    return dataclasses.replace(stored, config=_config_beside(path))


def _open_shards(path: Path) -> StoredCheckpoint:
    index = read_index(path)
    missing = [name for name in index if not (path.parent / name).exists()]
    if missing:
        raise CheckpointError(f"{path}: names {_counted(missing, 'file')} that {path.parent} lacks")
    tensors, metadata = {}, {}
    for file, names in index.items():
        shard = open_safetensors(path.parent / file)
        if differing := shard.tensors.keys() ^ {*names}:
            problem = f"{_counted(sorted(differing), 'tensor')} in only one of {file} and its index"
            raise CheckpointError(f"{path}: {problem}; download both again")
        tensors |= shard.tensors
        metadata |= shard.metadata
    return StoredCheckpoint(str(path), tensors, metadata)


def _config_beside(path: Path) -> str | None:
    """Return the text of config.json, which describes the only checkpoint of its folder."""
    file = path.parent / CONFIG_FILE
    try:
        if not file.is_file() or file.stat().st_size > MAX_HEADER:
            return None
        is_only = choose((each.name for each in path.parent.iterdir()), "") == path.name
        return file.read_text("utf-8") if is_only else None
    except (OSError, ValueError):  # other programs' files may be anything
        return None


def files_of(path: Path) -> list[Path]:
    """Return the files that hold a checkpoint: its shards if it is an index, or the file itself.

    Raises:
        CheckpointError: if the index is damaged.
    """
    if not path.name.endswith(INDEX_ENDING):
        return [path]
    return [path.parent / name for name in read_index(path)]


def read_index(path: Path) -> Index:
    """Read an index of shards, whose files are all beside it.

    Raises:
        CheckpointError: if it is damaged, too large, or names files in other folders.
    """
    try:
        if path.stat().st_size > MAX_HEADER:
            raise ValueError(f"more than {MAX_HEADER:,} bytes")
        files: dict[str, list[str]] = defaultdict(list)
        for tensor, file in _weight_map(json.loads(path.read_bytes())).items():
            files[_plain(file)].append(tensor)
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from None
    except (LookupError, TypeError, ValueError, RecursionError) as error:
        reason = printable(str(error))
        raise CheckpointError(f"{path}: is not an index of safetensors files ({reason})") from None
    if not 1 <= len(files) <= MAX_SHARDS:
        raise CheckpointError(f"{path}: names {len(files)} files, expected 1 to {MAX_SHARDS}")
    return files


def _weight_map(content: Any) -> Mapping[str, Any]:
    if not isinstance(content, dict) or not isinstance(content.get("weight_map"), dict):
        raise TypeError("it has no weight_map")
    return content["weight_map"]


def _plain(file: Any) -> str:
    """Return the name of a shard, which can only be in the folder of the index."""
    safe = isinstance(file, str) and PurePath(file).name == file and file.endswith(SAFETENSORS)
    if not safe or "\0" in file or "\\" in file:
        raise ValueError(f"{file!r} is not the plain name of a safetensors file")
    return file


def _counted(names: list[str], noun: str) -> str:
    """Count names, and list the first of them."""
    return f"{counted(len(names), noun)} ({listed(names)})"

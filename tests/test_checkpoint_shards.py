"""Checkpoints in folders, in one file or in several with an index."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aura_jax
from aura_jax import CheckpointError
from aura_jax.checkpoint.shards import open_checkpoint
from aura_jax.checkpoint.tensors import (
    MAX_HEADER,
)
from aura_jax.cli.app import app
from tests.checkpoint_files import Tensors, assert_same_bits, read, written
from tests.commands import invoke

FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
INDEX = "model.safetensors.index.json"


def write_shards(folder: Path, tensors: Tensors) -> dict[str, str]:
    """Write the encoder and the decoder to two files, and return where each tensor is."""
    files = {name: FIRST if name.startswith("encoder") else SECOND for name in tensors}
    for file in (FIRST, SECOND):
        written(folder / file, {n: array for n, array in tensors.items() if files[n] == file})
    write_index(folder, files)
    return files


def write_index(folder: Path, files: Any) -> None:
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": files}))


def test_a_folder_with_an_index_or_one_file(tensors: Tensors, tmp_path: Path):
    sharded, single = tmp_path / "sharded", tmp_path / "single"
    sharded.mkdir()
    single.mkdir()
    write_shards(sharded, tensors)
    written(single / "vae.safetensors", tensors)
    (single / "vae.ckpt").write_bytes(b"a pickle, perhaps")
    (single / "README.md").write_text("not a checkpoint")
    for path in (sharded, sharded / INDEX, single):
        aura_jax.save(aura_jax.load(path), tmp_path / "back", layout="torch")
        assert_same_bits(read(tmp_path / "back"), tensors)
    result = json.loads(invoke(app, "info", sharded, "--json"))
    assert result["bytes"] == sum((sharded / file).stat().st_size for file in (FIRST, SECOND))
    written(single / "other.safetensors", tensors)
    with pytest.raises(
        CheckpointError, match=r"single: holds other\.safetensors, vae\.safetensors; name one file"
    ):
        aura_jax.load(single)


def test_missing_and_wrong_shards_are_named(tensors: Tensors, tmp_path: Path):
    files = write_shards(tmp_path, tensors)
    written(tmp_path / FIRST, {"encoder.conv_in.bias": tensors["encoder.conv_in.bias"]})
    with pytest.raises(CheckpointError, match=rf"index\.json: .*encoder.* in only one of {FIRST}"):
        aura_jax.load(tmp_path)
    (tmp_path / FIRST).unlink()
    with pytest.raises(CheckpointError, match=rf"names 1 file \({FIRST}\) that .* lacks"):
        aura_jax.load(tmp_path)
    write_index(tmp_path, dict.fromkeys(files, SECOND))
    with pytest.raises(CheckpointError, match=rf"tensors \(encoder.*in only one of {SECOND}"):
        aura_jax.load(tmp_path)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a": "../secret.safetensors"}, "'../secret.safetensors' is not the plain name"),
        ({"a": "/secret.safetensors"}, "is not the plain name"),
        ({"a": "x\\y.safetensors"}, "is not the plain name"),
        ({"a": "\0.safetensors"}, "is not the plain name"),
        ({"a": ".."}, "is not the plain name"),
        ({"a": 3}, "3 is not the plain name"),
        ({"a": "\x1b[31m"}, "is not the plain name"),
        ({}, "names 0 files, expected 1 to 1000"),
        ({str(i): f"{i}.safetensors" for i in range(2000)}, "names 2000 files, expected 1 to 1000"),
        ([], "it has no weight_map"),
    ],
)
def test_an_index_names_only_files_beside_it(tmp_path: Path, files: Any, message: str):
    (tmp_path / "inside").mkdir()
    written(tmp_path / "secret.safetensors", {"a": np.zeros(1, np.float32)})
    write_index(tmp_path / "inside", files)
    with pytest.raises(CheckpointError, match=message) as error:
        aura_jax.load(tmp_path / "inside")
    assert "\x1b" not in str(error.value)


@pytest.mark.parametrize("text", ["", "[" * 100_000, "3", "\xff", " " * (MAX_HEADER + 1)])
def test_damaged_indexes(tmp_path: Path, text: str):
    (tmp_path / INDEX).write_text(text, encoding="latin-1")
    with pytest.raises(CheckpointError, match=r"index\.json: is not an index of safetensors files"):
        open_checkpoint(tmp_path / INDEX)

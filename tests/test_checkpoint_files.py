"""Files that are damaged, hostile or in the wrong place: one sentence each, and in time."""

import inspect
import json
import struct
from pathlib import Path
from typing import Any

import pytest

import aura_jax
from aura_jax import AuraEquiVAE, AuraError, CheckpointError
from tests.checkpoint_files import Tensors, header, written

F32 = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "header too small"),
        (b"no checkpoint at all", "header too large"),
        (struct.pack("<Q", 2**60) + b"{}", "header too large"),
        (header({"a": F32}, b"123"), "not a valid safetensors file"),
        (header({"a": F32, "b": F32 | {"data_offsets": [2, 6]}}, bytes(6)), "invalid offset"),
        (header(b'{"a":%s,"a":%s}' % ((json.dumps(F32).encode(),) * 2), bytes(4)), "twice: a"),
        (b"PK\x03\x04" + bytes(60), r"is a pickle.*python -m convert --allow-pickle.*weights_only"),
        (struct.pack("<Q", 0x280) + b"{}", "not a valid safetensors file"),
        (b"\x80\x02}q\x00." + bytes(9), r"is a pickle.*python -m convert --allow-pickle"),
    ],
)
def test_corrupt_files_are_refused(tmp_path: Path, content: bytes, message: str):
    path = tmp_path / "file.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as error:
        aura_jax.load(path)
    assert str(error.value).startswith(str(path))


def test_a_truncated_file(tensors: Tensors, tmp_path: Path):
    path = written(tmp_path / "cut", tensors)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="not fully covered"):
        aura_jax.load(path)


def test_paths_that_are_not_files(tmp_path: Path):
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        aura_jax.load(tmp_path)
    with pytest.raises(CheckpointError, match="is not a regular file"):
        aura_jax.load("/dev/null")
    with pytest.raises(CheckpointError, match=r"nowhere\.safetensors: no such file"):
        aura_jax.load(tmp_path / "nowhere.safetensors")
    with pytest.raises(CheckpointError, match=r"runs/small\.safetensors: no such file"):
        aura_jax.load("runs/small.safetensors")


def test_saving_is_all_or_nothing(
    tiny_vae: AuraEquiVAE, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "saved"
    path.write_bytes(b"as it was")
    with pytest.raises(AuraError, match="cannot be written"):
        aura_jax.save(tiny_vae, tmp_path / "no" / "folder")

    def full_disk(_arrays: Tensors, path: Path, _metadata: dict[str, str]) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("aura_jax.checkpoint.loading.save_file", full_disk)
    with pytest.raises(AuraError, match=r"saved: cannot be written .*No space left"):
        aura_jax.save(tiny_vae, path)
    assert [p.name for p in tmp_path.iterdir()] == ["saved"]
    assert path.read_bytes() == b"as it was"


def test_header_bombs(tmp_path: Path):
    """Each of these once took from seconds to minutes, or wrote megabytes."""
    path, empty = tmp_path / "bomb", {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    for content, message in (
        (
            header({str(i): empty for i in range(200_000)}),
            "a header of 1.*, more than 8,388,608",
        ),
        (header({str(i): empty for i in range(30_000)}), "has 30,000 tensors, more than 20,000"),
        (header(b"[" * 2**20), "not a valid safetensors file"),
        (header(b'{"a":' * 2**18), "not a valid safetensors file"),
        (header({"a": empty | {"shape": [2**63, 2**63]}}), "not a valid safetensors file"),
        (header({"a": empty | {"shape": [[]]}}), "not a valid safetensors file"),
        (header({"__metadata__": {"a": 1}}), "not a valid safetensors file"),
        (header({"a": empty | {"dtype": "\x1b[31m" * 1000}}), "not a valid safetensors file"),
    ):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=message) as error:
            aura_jax.load(path)
        (line,) = str(error.value).splitlines()
        assert len(line) < 500
        assert "\x1b" not in line


def test_what_is_saved_and_where_is_checked(tiny_vae: AuraEquiVAE, tmp_path: Path):
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    save: Any = inspect.unwrap(aura_jax.save)  # without the tests' own check of types
    for words, message in (
        ((tmp_path / "a", tiny_vae), r"save\(vae, path\): expected an AuraEquiVAE and a path"),
        ((tiny_vae, 3), "got a AuraEquiVAE and a int"),
        ((tiny_vae, "a\0b"), r"^'a\\x00b': no file can have a name with a null byte"),
        ((tiny_vae, tmp_path / "link"), "is a link to a file that does not exist"),
        (
            (tiny_vae, tmp_path / "a.npz"),
            "the file is written as safetensors; give a name that ends in .safetensors",
        ),
    ):
        with pytest.raises(AuraError, match=message) as error:
            save(*words)
        assert len(str(error.value).splitlines()) == 1
    with pytest.raises(CheckpointError, match="no such file"):
        aura_jax.load("a\0b")
    assert [path.name for path in tmp_path.iterdir()] == ["link"]

"""Caches of small pictures, made by the command in this process."""

import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from aura_jax import AuraEquiVAE, save
from aura_jax.cli.app import app
from tests.commands import invoke
from tests.photo_folder import write_photos

SIZE = 16


def cache(*words: object) -> str:
    """What `aura-jax cache` prints for these words."""
    return invoke(app, "cache", *words)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder and below it, hidden ones too."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def write_tar(path: Path, members: Mapping[str, bytes]) -> Path:
    """A tar of named bytes, in their order."""
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory, tiny_vae: AuraEquiVAE) -> Path:
    """A checkpoint of the tiny model, which halves the sides of pictures."""
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save(tiny_vae, path)
    return path


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eleven pictures of 24 x 24 in two folders."""
    folder = tmp_path_factory.mktemp("data") / "photos"
    write_photos(folder / "cats", 7, size=24)
    write_photos(folder / "dogs", 4, size=24)
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, photos: Path, weights: Path) -> Path:
    """A cache of those pictures in three shards; tests do not change it."""
    out = tmp_path_factory.mktemp("made") / "latents"
    cache(photos, out, *options(weights))
    return out


def options(weights: Path) -> tuple[object, ...]:
    """Those that `made` was made with."""
    return ("--size", SIZE, "--weights", weights, "--per-shard", 4, "--batch", 2)


def manifest_of(folder: Path) -> dict:
    """The manifest as JSON has it."""
    return json.loads((folder / "manifest.json").read_text())

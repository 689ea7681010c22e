"""Caches of small images, mostly made with a fake encoder that compiles nothing."""

import io
import json
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aura_jax import AuraEquiVAE, save
from aura_jax.cli.app import app
from aura_jax.latents import build
from aura_jax.latents.encoder import Encode, EncoderFactory
from aura_jax.latents.executors import LocalExecutor
from aura_jax.latents.manifest import Manifest
from aura_jax.latents.spec import CacheSpec
from tests.commands import invoke
from tests.photo_folder import write_photos

SIZE = 16


def fake_encoder(spec: CacheSpec, weights: str, batch: int) -> Encode:
    """Make an encoder that mixes 2 × 2 pixels into each latent pixel with fixed random weights."""
    mixing = np.random.default_rng(0).normal(0, 0.4, (2, 2, 3, 16))

    def encode(images: np.ndarray) -> np.ndarray:
        assert len(images) <= batch
        height, width = images.shape[1] // 2, images.shape[2] // 2
        patches = images.reshape(len(images), height, 2, width, 2, 3) / 127.5 - 1
        return np.einsum("bhpwqc,pqcz->bhwz", patches, mixing).clip(-8, 8).astype(np.float32)

    return encode


def local(encoder: EncoderFactory = fake_encoder) -> Callable[[], LocalExecutor]:
    """Return a factory of executors with an encoder that compiles nothing."""
    return lambda: LocalExecutor(encoder)


def make(images: Path | list[Path], out: Path, weights: Path, **options: Any) -> Manifest | None:
    """Make a cache with the fake encoder, by default with the options of `made`."""
    places = images if isinstance(images, list) else [images]
    defaults = {"size": SIZE, "per_shard": 4, "batch": 2, "executor": local()}
    return build.make(places, out, weights=str(weights), **defaults | options)


def finished(images: Path | list[Path], out: Path, weights: Path, **options: Any) -> Manifest:
    """Make a cache that one job finishes, and return its manifest."""
    manifest = make(images, out, weights, **options)
    assert manifest is not None
    return manifest


def cache(*words: object) -> str:
    """Run `aura-jax cache` with these arguments and return its output."""
    return invoke(app, "cache", *words)


def contents(folder: Path) -> dict[str, bytes]:
    """Return the contents of every file in a folder and below it, including hidden ones."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def write_tar(path: Path, members: Mapping[str, bytes]) -> Path:
    """Write a tar with these members, in order."""
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory, tiny_vae: AuraEquiVAE) -> Path:
    """Write a checkpoint of the tiny model, which halves the sides of images."""
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save(tiny_vae, path)
    return path


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write eleven images of 24 x 24 in two folders."""
    folder = tmp_path_factory.mktemp("data") / "photos"
    write_photos(folder / "cats", 7, size=24)
    write_photos(folder / "dogs", 4, size=24)
    return folder


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, photos: Path, weights: Path) -> Path:
    """Make a cache of `photos` in three shards with the fake encoder; tests must not change it."""
    out = tmp_path_factory.mktemp("made") / "latents"
    make(photos, out, weights)
    return out


@pytest.fixture(scope="session")
def encoded(tmp_path_factory: pytest.TempPathFactory, photos: Path, weights: Path) -> Path:
    """Make the cache with the real model through the command; tests must not change it."""
    out = tmp_path_factory.mktemp("encoded") / "latents"
    said = cache("make", photos, "--out", out, *options(weights))
    assert "11 latents in 3 shards" in said
    return out


def options(weights: Path) -> tuple[object, ...]:
    """Return the command-line options of `made` and `encoded`."""
    return ("--size", SIZE, "--weights", weights, "--per-shard", 4, "--batch", 2)


def manifest_of(folder: Path) -> dict:
    """Read a manifest as plain JSON."""
    return json.loads((folder / "manifest.json").read_text())

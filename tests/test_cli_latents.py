"""Files of latents on the command line: described, and decoded with other weights."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import aura_jax
from aura_jax import AuraError
from aura_jax.cli.app import app
from aura_jax.model.parameters import fingerprint
from aura_jax.photo_latents import Latent, LatentFile, write_latents
from tests.commands import invoke
from tests.conftest import TINY_CONFIG
from tests.random_models import random_vae


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny"
    aura_jax.save(random_vae(TINY_CONFIG), path)
    return path


@pytest.fixture
def latents() -> dict[str, Latent]:
    return {"a": Latent(np.ones((4, 4, 16), np.float32), (0, 0, 8, 7))}


@pytest.mark.parametrize("known", [None, "same", "other"])
def test_decoding_with_other_weights_warns(
    model: Path, latents: dict[str, Latent], tmp_path: Path, known: str | None
):
    weights = {"same": fingerprint(aura_jax.load(model)), "other": "0" * 64}.get(known or "")
    write_latents(tmp_path / "z.st", LatentFile(latents, TINY_CONFIG, weights))
    words = ("decode", tmp_path / "z.st", "--out", tmp_path / "o", "--weights", model)
    result = CliRunner().invoke(app, [*map(str, words)])
    assert result.exit_code == 0
    warning = f"{tmp_path / 'z.st'}: its latents were made with other weights than {model}"
    assert result.stderr == (f"warning: {warning}\n" if known == "other" else "")


def test_a_flip_keeps_the_fingerprint(latents: dict[str, Latent], tmp_path: Path):
    write_latents(tmp_path / "z.st", LatentFile(latents, TINY_CONFIG, "ab" * 32))
    invoke(app, "flip", tmp_path / "z.st", "-h", "--out", tmp_path / "flipped.st")
    result = json.loads(invoke(app, "info", tmp_path / "flipped.st", "--json"))
    assert result["weights"] == "ab" * 32


def test_info_describes_latents(latents: dict[str, Latent], tmp_path: Path):
    write_latents(tmp_path / "z.st", LatentFile(latents, TINY_CONFIG, "ab" * 32))
    result = json.loads(invoke(app, "info", tmp_path / "z.st", "--json"))
    assert result["latents"] == [
        {"name": "a", "shape": [4, 4, 16], "dtype": "float32", "image": [8, 7]}
    ]
    assert (result["config"]["ch"], result["weights"]) == (32, "ab" * 32)
    text = invoke(app, "info", tmp_path / "z.st")
    assert "a: latent 4 x 4 x 16 float32, of an image of 8 x 7\n" in text
    assert f"made with weights of fingerprint {'ab' * 32}\n{TINY_CONFIG}" in text
    write_latents(tmp_path / "old.st", LatentFile(latents, TINY_CONFIG))
    assert "made with weights of fingerprint unknown" in invoke(app, "info", tmp_path / "old.st")


def test_the_ending_of_another_format_is_refused(latents: dict[str, Latent], tmp_path: Path):
    with pytest.raises(AuraError, match=r"z\.npz: the file is written as safetensors"):
        write_latents(tmp_path / "z.npz", LatentFile(latents, TINY_CONFIG))
    assert not [*tmp_path.iterdir()]

"""Checkpoints known by name, and suggestions for misspelt names, without a network."""

from pathlib import Path

import pytest

import aura_jax
from aura_jax import AuraEquiVAE, CheckpointError
from aura_jax.checkpoint.describe import summarize
from aura_jax.checkpoint.hub import find_checkpoint
from aura_jax.checkpoint.shards import open_checkpoint
from aura_jax.cli.app import app
from tests.commands import invoke
from tests.conftest import ROOT
from tests.photo_folder import write_photos


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aura_jax.checkpoint.hub._fetch", _refuse)


def _refuse(repo: str, file: str | None, options: object) -> Path:
    raise ConnectionError(f"no network for {repo}")


def test_the_list_is_true():
    small, published = aura_jax.list_checkpoints()
    path = find_checkpoint(small.name)
    assert (small.name, small.where, small.file) == ("small", "package", path.name)
    assert small.size == path.stat().st_size
    assert small.parameters == summarize(open_checkpoint(path)).parameters
    assert f"{small.parameters:,}" in (ROOT / "aura_jax/weights/README.md").read_text()
    assert (published.name, published.where) == ("fal/AuraEquiVAE", "hub")
    assert published.parameters == 334_534_931
    assert {small.license, published.license} == {"Apache-2.0"}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("smal", r'^smal: no such file; did you mean "small"\?$'),
        ("Small", r'^Small: no such file; did you mean "small"\?$'),
        ("AuraEquiVAE", r'^AuraEquiVAE: no such file; did you mean "fal/AuraEquiVAE"\?$'),
        ("auraequivea", r'did you mean "fal/AuraEquiVAE"\?$'),
        ("fal/AuraEquVAE", r'no network.*; did you mean "fal/AuraEquiVAE"\?$'),
        ("someone/AuraEquiVAE", r'no network.*; did you mean "fal/AuraEquiVAE"\?$'),
        ("fal/AuraEquiVAE", r"no network.*check your connection and the name$"),
        ("someone/else", r"no network.*check your connection and the name$"),
        ("photos", r"^photos: no such file$"),
        ("", r'^"": expected a file, a folder or a name'),
    ],
)
def test_misspelt_names_get_a_suggestion(name: str, message: str, tmp_path: Path):
    for load in (aura_jax.load, AuraEquiVAE.from_pretrained):
        with pytest.raises(CheckpointError, match=message):
            load(name)
    with pytest.raises(CheckpointError, match=message):
        invoke(app, "info", name)
    (photo,) = write_photos(tmp_path, 1).iterdir()
    with pytest.raises(CheckpointError, match=message):
        invoke(app, "encode", photo, "--out", tmp_path / "z.safetensors", "--weights", name)

"""The command refuses inputs and outputs that it cannot use, before it writes anything."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import aura_jax
from aura_jax import AuraConfig, AuraError
from aura_jax.photo_latents import Latent, LatentFile, write_latents
from tests.conftest import GOLDEN_CONFIG, GOLDEN_WEIGHTS
from tests.corner_photo import WEIGHTS, command, photo, size_of
from tests.random_models import random_vae

__all__ = ["photo"]  # a fixture


def test_output_that_exists_is_kept(photo: Path, tmp_path: Path):
    z, out = tmp_path / "z.st", tmp_path / "out.png"
    command("encode", photo, "--out", z, *WEIGHTS)
    out.write_bytes(b"mine")
    for words in (
        ("encode", photo, "--out", z, *WEIGHTS),
        ("flip", z, "-h", "--out", z),
        ("decode", z, "--out", out, *WEIGHTS),
        ("reconstruct", photo, "--out", out, *WEIGHTS),
    ):
        with pytest.raises(AuraError, match="exists already; give another name or --overwrite"):
            command(*words)
    assert out.read_bytes() == b"mine"
    command("decode", z, "--out", out, *WEIGHTS, "--overwrite")
    assert size_of(out) == (45, 30)


def test_refusals_name_the_thing_and_write_nothing(photo: Path, tmp_path: Path):
    z, small, text = tmp_path / "z.st", tmp_path / "small.png", tmp_path / "text.png"
    Image.new("RGB", (40, 7)).save(small)
    text.write_text("hello")
    photo.with_suffix(".webp").write_text("its twin")
    command("encode", photo, "--out", z, *WEIGHTS)
    before = sorted(tmp_path.iterdir())
    out = ("--out", tmp_path / "new.st", *WEIGHTS)
    for words, message in (
        (("encode", text, *out), "every image was skipped"),
        (("encode", tmp_path / "no.png", *out), "no.png: no such file or folder"),
        (("encode", small, *out), "every image was skipped"),
        (("encode", photo, photo, *out), f"{photo}: given twice, or lies within another place"),
        (("encode", tmp_path, *out), "2 images are named 'corner'"),
        (("encode", photo, "--size", "99", *out), "every image was skipped"),
        (("encode", photo, "--crop", "9", *out), "--crop .* give --size too"),
        (("encode", photo, "--out", tmp_path / "no" / "z", *WEIGHTS), "folder .* does not exist"),
        (("encode", photo, "--out", tmp_path / "z", "--weights", text), "text.png: is not a valid"),
        (("reconstruct", photo, *out), r"new.st: expected a name that ends in .png"),
        (("flip", z, "--out", tmp_path / "new.st"), "nothing to flip: give -h, -v or both"),
        (("flip", GOLDEN_WEIGHTS, "-h", "--out", tmp_path / "new.st"), "not latents as"),
        (("decode", text, "--out", tmp_path / "new", *WEIGHTS), "text.png: is not a valid"),
        (("decode", z, "--out", z / "new", *WEIGHTS), "z.st: is a file; give a folder"),
        (
            ("decode", z, "--out", text.with_suffix(""), "--weights", text),
            "text.png: is not a valid",
        ),
        (("decode", z, "--out", z, *WEIGHTS), "z.st: is a file; give a folder"),
        (("info", tmp_path / "no.pt"), "no.pt: no such file"),
    ):
        with pytest.raises(AuraError, match=message):
            command(*words)
    assert sorted(tmp_path.iterdir()) == before


def test_an_output_among_the_images_is_refused(photo: Path):
    with pytest.raises(AuraError, match=r"corner\.png: is among the images"):
        command("reconstruct", photo, "--out", photo, "--overwrite", *WEIGHTS)
    with pytest.raises(AuraError, match=r"new\.png: lies in .*, a folder of input images"):
        command("reconstruct", photo.parent, "--out", photo.parent / "new.png", *WEIGHTS)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder that nobody can write")
def test_outputs_that_cannot_be_written_are_refused_before_the_work(
    photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Even root makes no files in /proc, whatever the permissions say."""
    command("encode", photo, "--out", tmp_path / "z.st", *WEIGHTS)
    monkeypatch.setattr("aura_jax.photo_latents.load", lambda *_, **__: pytest.fail("too late"))
    long = tmp_path / f"{'n' * 252}.png"
    for words in (
        ("encode", photo, "--out", "/proc/z.st"),
        ("reconstruct", photo, "--out", "/proc/o.png"),
        ("reconstruct", photo, "--out", long),
        ("decode", tmp_path / "z.st", "--out", "/proc/new"),
        ("decode", tmp_path / "z.st", "--out", "/proc/o.png"),
        ("equivariance", photo, "--out", "/proc/new"),
        ("evaluate", photo, "--out", "/proc/new"),
    ):
        with pytest.raises(AuraError, match="cannot be written"):
            command(*words, *WEIGHTS)
    with pytest.raises(AuraError, match=r"/proc/z\.st: cannot be written"):
        command("flip", tmp_path / "z.st", "-h", "--out", "/proc/z.st")


@pytest.mark.parametrize("name", ["", "a\0", "x/y", "n" * 252])
def test_latents_named_as_no_file_can_be(tmp_path: Path, name: str):
    values = np.zeros((1, 1, 16), np.float32)
    latents = {"good": Latent(values, (0, 0, 8, 8)), name: Latent(values, (0, 0, 8, 8))}
    write_latents(tmp_path / "z.st", LatentFile(latents, GOLDEN_CONFIG))
    with pytest.raises(AuraError, match="no file can have this name"):
        command("decode", tmp_path / "z.st", "--out", tmp_path / "out", *WEIGHTS)
    assert [path.name for path in tmp_path.iterdir()] == ["z.st"]


def test_models_with_other_channels_and_unknown_image_formats(photo: Path, tmp_path: Path):
    config = AuraConfig(32, (2,), 1, 4, out_channels=1)
    aura_jax.save(random_vae(config), tmp_path / "gray")
    words = ("reconstruct", photo, "--out", tmp_path / "o.png", "--weights", tmp_path / "gray")
    with pytest.raises(AuraError, match="gray: not a model of RGB images"):
        command(*words)
    command("encode", photo, "--out", tmp_path / "z.st", *WEIGHTS)
    with pytest.raises(AuraError, match=r"o\.gif: expected a name that ends in \.png"):
        command("decode", tmp_path / "z.st", "--out", tmp_path / "o.gif", *WEIGHTS)


def test_latents_of_another_model_are_refused(photo: Path, tmp_path: Path, tiny_vae):
    aura_jax.save(tiny_vae, tmp_path / "tiny")
    command("encode", photo, "--out", tmp_path / "z.st", "--weights", tmp_path / "tiny")
    with pytest.raises(AuraError, match=r"expected AuraConfig\(ch=32, ch_mult=\(1, 2\)"):
        command("decode", tmp_path / "z.st", "--out", tmp_path / "out", *WEIGHTS)

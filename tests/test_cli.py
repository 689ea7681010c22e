"""The command, run as a user runs it: what it writes and what it says."""

import json
import os
import shutil
import signal
import tarfile
from itertools import chain, repeat
from pathlib import Path
from unittest.mock import Mock

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import aura_jax
from aura_jax import AuraError
from aura_jax.arrays import relative_error
from aura_jax.cli import app as cli
from aura_jax.images.transforms import to_uint8
from aura_jax.model.parameters import fingerprint
from aura_jax.photo_latents import read_latents
from convert.tolerances import FP32_PARITY
from tests.cache_folder import weights
from tests.commands import start
from tests.conftest import GOLDEN_WEIGHTS, TINY_CONFIG
from tests.corner_photo import WEIGHTS, command, photo, size_of
from tests.photo_folder import read_image
from tests.random_models import random_vae

__all__ = ["photo", "weights"]  # fixtures


def test_encode_flip_decode(photo: Path, weights: Path, tmp_path: Path):
    z, flipped, out = (tmp_path / name for name in ("z.st", "hv.st", "out"))
    Image.open(photo).crop((0, 0, 45, 29)).save(photo)  # both sides are padded
    result = json.loads(command("encode", photo, "--out", z, "--weights", weights, "--json"))
    assert result == [{"name": "corner", "shape": [15, 23, 16], "dtype": "float32"}]
    command("flip", z, "-h", "-v", "--out", flipped)
    command("decode", flipped, "--out", out, "--weights", weights)
    with Image.open(out / "corner.png") as image:
        pixels = np.asarray(image)

    vae = aura_jax.load(weights)
    padded = np.pad(read_image(photo), ((0, 1), (0, 1), (0, 0)), mode="edge")
    z = np.asarray(aura_jax.encode(vae, padded[None]))
    latent = aura_jax.flip_latents(z, horizontal=True, vertical=True)
    decoded = np.asarray(aura_jax.decode(vae, latent)[0])
    expected = to_uint8(decoded[1:, 1:])  # where the padding went
    assert np.abs(pixels.astype(int) - expected).max() <= 1


def test_flipping_twice_gives_the_file_back(photo: Path, tmp_path: Path):
    names = ("z.st", "h.st", "hh.st")
    z, h, hh = (tmp_path / name for name in names)
    command("encode", photo, "--out", z, *WEIGHTS)
    command("flip", z, "-h", "--out", h)
    command("flip", h, "--horizontal", "--out", hh)
    assert hh.read_bytes() == z.read_bytes() != h.read_bytes()


def test_reconstruct_writes_a_grid_and_numbers(photo: Path, tmp_path: Path):
    out = tmp_path / "grid.png"
    (result,) = json.loads(command("reconstruct", photo, "--out", out, *WEIGHTS, "--json"))
    assert result["image"] == str(photo)
    assert result["size"] == [45, 30]
    assert list(result["psnr_db"]) == ["none", "h", "v", "hv"]
    assert all(3 < decibels < 30 for decibels in result["psnr_db"].values())
    with Image.open(out) as grid:
        assert grid.width > 5 * 45
    text = command("reconstruct", photo, "--out", out, *WEIGHTS, "--overwrite")
    assert (
        f"corner.png, 45 x 30: reconstruction, {result['psnr_db']['none']:.2f} dB; h flip" in text
    )


def test_size_and_crop(photo: Path, weights: Path, tmp_path: Path):
    z = tmp_path / "z.st"
    command("encode", photo, "--out", z, "--weights", weights, "--size", "16", "--crop", "8")
    file = read_latents(z)
    latents, vae = file.latents, aura_jax.load(weights)
    expected = aura_jax.encode(vae, read_image(photo)[None, 8:24, 8:24])[0]
    assert relative_error(latents["corner"].values, np.asarray(expected)) <= FP32_PARITY
    assert latents["corner"].box == (0, 0, 16, 16)
    assert (file.config, file.weights) == (vae.config, fingerprint(vae))


def test_several_photos_of_several_sizes(photo: Path, tmp_path: Path):
    gray = tmp_path / "gray.png"
    Image.new("L", (41, 31), 90).save(gray)  # padded to the size that the corner is padded to
    command("encode", photo, gray, "--out", tmp_path / "z.st", *WEIGHTS)
    command("decode", tmp_path / "z.st", "--out", tmp_path / "both", *WEIGHTS)
    sizes = {path.name: size_of(path) for path in (tmp_path / "both").iterdir()}
    assert sizes == {"corner.png": (45, 30), "gray.png": (41, 31)}
    with pytest.raises(AuraError, match="one image for 2 latents; give a folder"):
        command("decode", tmp_path / "z.st", "--out", tmp_path / "one.png", *WEIGHTS)


def test_info_counts():
    text = command("info", GOLDEN_WEIGHTS)
    assert "5.6 MB" in text
    assert "2,798,387 parameters in 168 tensors, BF16, torch layout" in text
    result = json.loads(command("info", GOLDEN_WEIGHTS, "--json"))
    assert result["parameters"] == 2_798_387
    assert result["config"]["ch_mult"] == [1, 1, 2, 4]


def test_unusual_names_of_files_and_of_tensors(photo: Path, tmp_path: Path):
    out = tmp_path / "[red]z:cat:.st"
    odd = photo.rename(tmp_path / "[b]ä :cat:.png")
    assert f"wrote {out} (" in command("encode", odd, "--out", out, *WEIGHTS)
    assert f"wrote {out}x" in command("flip", out, "-h", "--out", f"{out}x")
    assert f"wrote {tmp_path}/d/{odd.name}" in command(
        "decode", out, "--out", tmp_path / "d", *WEIGHTS
    )
    for name in ("__metadata__.png", "a\nb.png", os.fsdecode(b"bad\xff.png")):
        odd = odd.rename(tmp_path / name)
        with pytest.raises(AuraError, match="rename it, a tensor cannot have this name"):
            command("encode", odd, "--out", tmp_path / "new.st", *WEIGHTS)


def test_folders_and_tars_and_images_that_are_skipped(photo: Path, tmp_path: Path):
    """Readable images are written, skipped ones are named, and the exit status is 1."""
    folder, tar = tmp_path / "folder", tmp_path / "images.tar"
    (folder / "deep").mkdir(parents=True)
    shutil.copy(photo, folder / "deep" / "a.png")
    (folder / "b.png").write_text("hello")
    Image.new("RGB", (45, 7)).save(folder / "c.png")
    with tarfile.open(tar, "w") as file:
        file.add(photo, "x/d.png")
    z, out = tmp_path / "z.st", tmp_path / "grid.png"
    for words, written in ((("encode", "--out", z), z), (("reconstruct", "--out", out), out)):
        result = CliRunner().invoke(cli.app, [*map(str, (*words, folder, tar, *WEIGHTS))])
        assert isinstance(result.exception, AuraError)
        assert "2 of 4 images skipped; the others are written" in str(result.exception)
        assert f"skipped: {folder}/b.png: not an image" in result.stderr
        assert f"skipped: {folder}/c.png: an image of 45 x 7: each side needs 8" in result.stderr
        assert written.exists()
        assert f"wrote {written}" in result.stdout
    assert [*read_latents(z).latents] == ["a", "d"]


def test_images_too_large_for_the_memory_are_skipped(
    photo: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The plans of the bucket's executable and of the first image's own are refused."""
    twin, z = (tmp_path / name for name in ("twin.png", "z.st"))
    Image.open(photo).crop((0, 0, 16, 16)).save(twin)  # a size that is not refused yet
    command("encode", photo, twin, "--out", z, "--weights", weights)
    cases = {
        f"{photo}: images of shape (1, 30, 46, 3)": ("encode", photo, twin),
        "corner: latents of shape (1, 15, 23, 16)": ("decode", z),
    }
    for refused, words in cases.items():
        limits = Mock(side_effect=chain([0, 0], repeat(None)))
        monkeypatch.setattr("aura_jax.runtime.program.device_memory", limits)
        words = *words, "--out", tmp_path / f"new-{words[0]}", "--weights", weights
        result = CliRunner().invoke(cli.app, [*map(str, words)])
        assert "1 of 2 images skipped; the others are written" in str(result.exception)
        assert f"skipped: {refused}: needs " in result.stderr
        assert "of memory, and the device has 0 bytes; use smaller images\n" in result.stderr
    assert [*read_latents(tmp_path / "new-encode").latents] == ["twin"]
    assert size_of(tmp_path / "new-decode" / "twin.png") == (16, 16)


def test_the_compute_dtype_reaches_the_model(
    photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def load(weights: str, *, dtype: str | None, **_: object) -> None:
        raise AuraError(f"dtype {dtype}")

    command("encode", photo, "--out", tmp_path / "z.st", *WEIGHTS)
    monkeypatch.setattr("aura_jax.photo_latents.load", load)
    for words in (
        ("encode", photo, "--out", tmp_path / "new.st"),
        ("reconstruct", photo, "--out", tmp_path / "new.png"),
        ("decode", tmp_path / "z.st", "--out", tmp_path / "new"),
    ):
        with pytest.raises(AuraError, match="dtype bfloat16"):
            command(*words, "--compute-dtype", "bf16")
        with pytest.raises(AuraError, match="dtype None"):
            command(*words)


def test_equal_images_have_no_number_in_json(tmp_path: Path):
    vae = random_vae(TINY_CONFIG, jnp.bfloat16)  # of the types of `weights`, whose programs it runs
    kernel, bias = vae.decoder.conv_out.kernel, vae.decoder.conv_out.bias
    assert bias is not None
    kernel[...], bias[...] = (
        jnp.full(p.shape, x, p.dtype) for p, x in ((kernel, 0.0), (bias, 9.0))
    )
    aura_jax.save(vae, tmp_path / "white")
    Image.new("RGB", (16, 16), "white").save(tmp_path / "white.png")
    words = ("reconstruct", tmp_path / "white.png", "--out", tmp_path / "o.png", "--json")
    (result,) = json.loads(command(*words, "--weights", tmp_path / "white"))
    assert result["psnr_db"] == {"none": None, "h": None, "v": None, "hv": None}


def test_a_mistake_is_one_line_and_no_traceback(tmp_path: Path):
    words = tmp_path / "no such.png", "--out", tmp_path / "z.st"
    process = start("encode", *words)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert output == ""
    assert errors == f"error: {words[0]}: no such file or folder\n"


def test_ctrl_c_leaves_nothing_behind(tmp_path: Path):
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    process = start("reconstruct", pipe, "--out", tmp_path / "out.png", *WEIGHTS)
    with process, pipe.open("wb"):  # opens once the command has come to reading the image
        process.send_signal(signal.SIGINT)
        errors = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert errors == "interrupted\n"
    assert list(tmp_path.iterdir()) == [pipe]

"""The command, run as a user runs it: what it writes, what it says, and how it refuses."""

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
from aura_jax import AuraConfig, AuraError
from aura_jax.arrays import relative_error
from aura_jax.cli import app as cli
from aura_jax.images.transforms import to_uint8
from aura_jax.model.parameters import fingerprint
from aura_jax.photo_latents import Latent, LatentFile, read_latents, write_latents
from convert.tolerances import FP32_PARITY
from tests.commands import invoke, start
from tests.conftest import GOLDEN_CONFIG, GOLDEN_WEIGHTS, ROOT, TINY_CONFIG
from tests.photo_folder import read_image
from tests.random_models import random_vae

PHOTO = ROOT / "examples" / "chelsea.jpg"
WEIGHTS = ["--weights", str(GOLDEN_WEIGHTS)]


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A corner of the photograph whose sides are not multiples of 8: 45 x 30."""
    path = tmp_path / "corner.png"
    with Image.open(PHOTO) as image:
        image.crop((100, 60, 145, 90)).save(path)
    return path


def command(*words: str | Path) -> str:
    return invoke(cli.app, *words)


def test_encode_flip_decode(photo: Path, tmp_path: Path):
    z, flipped, out = (tmp_path / name for name in ("z.st", "hv.st", "out"))
    result = json.loads(command("encode", photo, "--out", z, *WEIGHTS, "--json"))
    assert result == [{"name": "corner", "shape": [4, 6, 16], "dtype": "float32"}]
    command("flip", z, "-h", "-v", "--out", flipped)
    command("decode", flipped, "--out", out, *WEIGHTS)
    with Image.open(out / "corner.png") as image:
        pixels = np.asarray(image)

    vae = aura_jax.load(GOLDEN_WEIGHTS)
    padded = np.pad(read_image(photo), ((0, 2), (0, 3), (0, 0)), mode="edge")
    latent = aura_jax.flip_latents(
        aura_jax.encode(vae, padded[None]), horizontal=True, vertical=True
    )
    decoded = np.asarray(aura_jax.decode(vae, latent)[0])
    expected = to_uint8(decoded[2:, 3:])  # where the padding went
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


def test_size_and_crop(photo: Path, tmp_path: Path):
    z = tmp_path / "z.st"
    command("encode", photo, "--out", z, *WEIGHTS, "--size", "16", "--crop", "8")
    file = read_latents(z)
    latents, vae = file.latents, aura_jax.load(GOLDEN_WEIGHTS)
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
        (("encode", photo, photo, *out), "2 images are named 'corner'"),
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
    photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The first of two images is refused by the plan of its executable."""
    twin, z = tmp_path / "twin.png", tmp_path / "z.st"
    Image.open(photo).crop((0, 0, 40, 30)).save(twin)  # a size that is not refused yet
    command("encode", photo, twin, "--out", z, *WEIGHTS)
    cases = {
        f"{photo}: images of shape (1, 32, 48, 3)": ("encode", photo, twin),
        "corner: latents of shape (1, 4, 6, 16)": ("decode", z),
    }
    for refused, words in cases.items():
        limits = Mock(side_effect=chain([0], repeat(None)))
        monkeypatch.setattr("aura_jax.runtime.program.device_memory", limits)
        words = *map(str, words), "--out", str(tmp_path / f"new-{words[0]}"), *WEIGHTS
        result = CliRunner().invoke(cli.app, words)
        assert "1 of 2 images skipped; the others are written" in str(result.exception)
        assert f"skipped: {refused}: needs " in result.stderr
        assert "of memory, and the device has 0 bytes; use smaller images\n" in result.stderr
    assert [*read_latents(tmp_path / "new-encode").latents] == ["twin"]
    assert size_of(tmp_path / "new-decode" / "twin.png") == (40, 30)


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
    ):
        with pytest.raises(AuraError, match="cannot be written"):
            command(*words, *WEIGHTS)
    with pytest.raises(AuraError, match=r"/proc/z\.st: cannot be written"):
        command("flip", tmp_path / "z.st", "-h", "--out", "/proc/z.st")


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
    vae = random_vae(TINY_CONFIG)
    kernel, bias = vae.decoder.conv_out.kernel, vae.decoder.conv_out.bias
    assert bias is not None
    kernel[...], bias[...] = (jnp.full(p.shape, x) for p, x in ((kernel, 0.0), (bias, 9.0)))
    aura_jax.save(vae, tmp_path / "white")
    Image.new("RGB", (8, 8), "white").save(tmp_path / "white.png")
    words = ("reconstruct", tmp_path / "white.png", "--out", tmp_path / "o.png", "--json")
    (result,) = json.loads(command(*words, "--weights", tmp_path / "white"))
    assert result["psnr_db"] == {"none": None, "h": None, "v": None, "hv": None}


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


def test_a_mistake_is_one_line_and_no_traceback(tmp_path: Path):
    process = start("info", tmp_path / "no such.pt")
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert output == ""
    assert errors == f"error: {tmp_path / 'no such.pt'}: no such file\n"


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


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size

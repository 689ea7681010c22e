"""A cache holds the latents of its images, however it is made and stored."""

import hashlib
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import aura_jax
from aura_jax.errors import AuraError
from aura_jax.images.transforms import square_pixels
from aura_jax.latents import LatentSource
from aura_jax.latents.examples import find_examples
from aura_jax.latents.read_example import Ready, read_example
from tests.cache_folder import (
    SIZE,
    cache,
    contents,
    encoded,
    finished,
    made,
    make,
    manifest_of,
    options,
    photos,
    weights,
    write_tar,
)
from tests.photo_folder import read_image, write_photos

__all__ = ["encoded", "made", "photos", "weights"]  # fixtures


def test_each_sample_is_the_latent_of_its_image(encoded: Path, photos: Path, weights: Path) -> None:
    """Compare the command's output with `aura_jax.encode`, without using any code of the cache."""
    vae = aura_jax.load(weights, dtype=jnp.float32)
    source = LatentSource(encoded)
    assert len(source) == 11
    keys = [source[i]["key"] for i in range(11)]
    assert keys == [f"cats/{i:03}" for i in range(7)] + [f"dogs/{i:03}" for i in range(4)]
    samples = [source[i] for i in (0, 6, 10)]
    pixels = [square_pixels(read_image(photos / f"{s['key']}.png"), SIZE) for s in samples]
    expected = np.asarray(aura_jax.encode(vae, np.stack(pixels)))
    for sample, latent in zip(samples, expected, strict=True):
        assert sample["latent"].shape == (8, 8, 16)
        assert sample["latent"].dtype == np.float32
        np.testing.assert_allclose(sample["latent"], latent, rtol=2**-8, atol=1e-5)
        assert sample["label"] == sample["key"].split("/")[0]
    assert source.classes == ("cats", "dogs")
    assert source[-1]["key"] == "dogs/003"
    with pytest.raises(IndexError, match="sample 11: the cache holds 11"):
        source[11]


def test_the_manifest_says_what_made_it(encoded: Path, photos: Path, weights: Path) -> None:
    manifest = manifest_of(encoded)
    spec = manifest["spec"]
    assert manifest["version"] == 2
    assert spec["weights"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert spec["config"]["ch"] == 32
    assert (spec["height"], spec["width"]) == (SIZE, SIZE)
    assert spec["resize"] == "largest centered square, Lanczos"
    assert (spec["clamp"], spec["images"], spec["per_shard"]) == (8.0, 11, 4)
    assert (spec["storage_dtype"], spec["compute_dtype"]) == ("bfloat16", "float32")
    assert manifest["environment"] == {
        "aura_jax": aura_jax.__version__,
        "jax": version("jax"),
        "platform": "cpu",
        "batch": 2,
    }
    assert [shard["count"] for shard in manifest["shards"]] == [4, 4, 3]
    for shard in manifest["shards"]:
        data = (encoded / shard["file"]).read_bytes()
        assert shard["sha256"] == hashlib.sha256(data).hexdigest()
        assert shard["bytes"] == len(data)
    assert (encoded / manifest["origin"]["images"][0]).resolve() == photos.resolve()
    assert {*contents(encoded)} == {
        "manifest.json",
        ".lock",
        *(f"{i:05}.arrayrecord" for i in range(3)),
    }


def test_a_second_cache_is_the_same_in_every_byte(made: Path, photos: Path, weights: Path) -> None:
    again = made.parent / "again"
    for _ in range(2):  # the second time nothing is left to do
        assert len(finished(photos, again, weights)) == 11
        assert contents(again) == contents(made)


def test_dtypes_have_short_names(tmp_path: Path, made: Path, photos: Path, weights: Path) -> None:
    out = made.parent / "short"
    finished(photos, out, weights, storage_dtype="bf16", compute_dtype="f32")
    assert contents(out) == contents(made)
    for name in ("storage_dtype", "compute_dtype"):
        expected = rf"{name.replace('_', ' ')} 'float8': expected bfloat16"
        with pytest.raises(AuraError, match=expected):
            make(photos, tmp_path, weights, **{name: "float8"})


def test_paths_may_be_relative_and_linked(
    tmp_path: Path, photos: Path, weights: Path, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Work may run in another directory, and a cache may be read from another one."""
    monkeypatch.chdir(photos)
    found = [e for shard in find_examples([Path()], 4) for e in shard.examples]
    assert all(example.image.path.is_absolute() for example in found)
    finished(Path(), Path("../here"), weights)
    source = LatentSource("../here")
    monkeypatch.chdir(tmp_path)
    for a, b in zip(source, LatentSource(made), strict=True):
        np.testing.assert_array_equal(a["latent"], b["latent"])
    image = (photos / "cats" / "000.png").read_bytes()
    (tmp_path / "blobs").mkdir()
    write_tar(tmp_path / "blobs" / "0ff1ce", {"0.png": image})
    Path("shard.tar").symlink_to("blobs/0ff1ce")
    finished(Path("shard.tar"), Path("linked"), weights)
    (place,) = LatentSource("linked").manifest.origin.images
    assert place == "../shard.tar"


def test_a_file_that_is_named_may_have_any_ending(tmp_path: Path, weights: Path) -> None:
    photo = write_photos(tmp_path / "p", 1) / "000.png"
    photo.rename(tmp_path / "download")
    assert len(finished(tmp_path / "download", tmp_path / "out", weights)) == 1
    assert LatentSource(tmp_path / "out")[0].keys() == {"latent", "key"}


def test_images_beside_folders_have_the_empty_label(tmp_path: Path, weights: Path) -> None:
    write_photos(write_photos(tmp_path / "photos", 1) / "cats", 1)
    finished(tmp_path / "photos", tmp_path / "out", weights)
    source = LatentSource(tmp_path / "out")
    assert [sample["label"] for sample in source] == ["", "cats"]
    assert source.classes == ("", "cats")


def test_without_a_size_images_stay_as_they_are(
    tmp_path: Path, photos: Path, weights: Path
) -> None:
    finished(photos, tmp_path / "whole", weights, size=None)
    assert LatentSource(tmp_path / "whole")[3]["latent"].shape == (12, 12, 16)


def test_images_of_every_kind(tmp_path: Path, made: Path) -> None:
    """Modes, turned by EXIF, and sizes: as the other commands read them."""
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    colors = Image.fromarray(rng.integers(0, 256, (40, 24, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    colors.save(folder / "turned.jpg", exif=exif)
    colors.convert("L").save(folder / "gray.png")
    colors.convert("P").save(folder / "palette.gif")
    colors.convert("RGBA").save(folder / "clear.webp", lossless=True)
    colors.resize((9, 8)).save(folder / "tiny.bmp")
    ((examples),) = [shard.examples for shard in find_examples([folder], 8)]
    assert len(examples) == 5
    for example in examples:
        read = read_example(example, LatentSource(made).manifest.spec)
        assert isinstance(read, Ready)
        expected = square_pixels(read_image(example.image.path), SIZE)
        np.testing.assert_allclose(read.pixels / 127.5 - 1, expected, atol=1e-6)


def test_the_command_helps_without_jax(weights: Path) -> None:
    """Heavy packages are imported only when there is work."""
    code = """
import sys
for name in ("jax", "flax", "grain", "msgspec"):
    sys.modules[name] = None
from aura_jax.cli.cache import cache
cache()
"""
    for command in ("make", "verify", "stats"):
        words = [sys.executable, "-c", code, command, "--help"]
        result = subprocess.run(words, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
        assert f"Example: aura-jax cache {command} " in result.stdout


def test_the_command_needs_its_words(tmp_path: Path, photos: Path) -> None:
    for job in ("2/2", "0/0", "x", "-1/2", "1"):
        with pytest.raises(AuraError, match=r"expected I/N with 0 <= I < N"):
            cache("make", photos, "--out", tmp_path / "out", f"--job={job}")


def test_the_command_and_jobs_use_the_same_options(
    tmp_path: Path, encoded: Path, photos: Path, weights: Path
) -> None:
    """A finished cache is found again: the command maps each option to its place."""
    short = ("--storage-dtype", "bf16", "--compute-dtype", "f32")
    said = cache("make", photos, "--out", encoded, *options(weights), "--job", "1/2", *short)
    assert "11 latents in 3 shards" in said
    with pytest.raises(AuraError, match=r'format: "arrayrecord" before, "webdataset" now'):
        cache("make", photos, "--out", encoded, *options(weights), "--format", "webdataset")

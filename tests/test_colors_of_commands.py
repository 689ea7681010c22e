"""Caches, runs and commands say how colors were read, and do not mix them."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aura_jax.cli import inputs
from aura_jax.cli.app import app
from aura_jax.errors import AuraError, CacheError, ImageError
from aura_jax.images.options import Decoding
from aura_jax.images.readers import ImageFile, find_images
from aura_jax.latents import LatentSource
from aura_jax.latents.verify import check_sample
from aura_jax.training.config import Crops, Recipe, RunSpec
from aura_jax.training.data import batches
from aura_jax.training.skipped import Skipped
from aura_jax.training.workdir import Workdir
from tests.cache_folder import cache, fake_encoder, finished, make, manifest_of, weights
from tests.commands import invoke
from tests.icc_profiles import ADOBE, rgb_profile

__all__ = ["weights"]  # a fixture

RAW = Decoding(raw_colors=True)
COLOR = (40, 90, 160)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six images with the profile of another color space."""
    place = tmp_path / "images"
    place.mkdir()
    for i in range(6):
        image = Image.new("RGB", (24, 24), COLOR)
        image.save(place / f"{i}.png", icc_profile=rgb_profile(ADOBE, 1.8))
    return place


def forget_colors(manifest: Path) -> None:
    """Make a manifest look like one from before profiles were applied."""
    document = json.loads(manifest.read_text())
    for name in ("colors", "max_pixels"):
        del document["spec"][name]
    document["spec"]["encoding"] = 1
    manifest.write_text(json.dumps(document))


def test_a_cache_counts_profiles_that_are_ignored(
    tmp_path: Path, folder: Path, weights: Path
) -> None:
    Image.new("RGB", (24, 24), COLOR).save(folder / "6.png", icc_profile=b"broken" * 30)
    assert finished(folder, tmp_path / "out", weights).problems == {"ignored color profile": 1}


def test_a_cache_records_the_conversion(tmp_path: Path, folder: Path, weights: Path) -> None:
    sources = []
    for name, decoding in (("new", Decoding()), ("raw", RAW)):
        spec = finished(folder, tmp_path / name, weights, decoding=decoding).spec
        assert spec.decoding == decoding
        sources.append(LatentSource(tmp_path / name))
        assert check_sample(sources[-1], 6, None, None, fake_encoder) < 0.05
    assert manifest_of(tmp_path / "new")["spec"]["colors"] == "converted to sRGB"
    assert manifest_of(tmp_path / "raw")["spec"]["colors"] == "as stored"
    assert np.abs(sources[0][0]["latent"] - sources[1][0]["latent"]).max() > 0.05


def test_a_cache_made_before_keeps_verifying(tmp_path: Path, folder: Path, weights: Path) -> None:
    finished(folder, tmp_path / "old", weights, decoding=RAW)
    forget_colors(tmp_path / "old" / "manifest.json")
    source = LatentSource(tmp_path / "old")
    assert source.manifest.spec.decoding == RAW
    assert check_sample(source, 6, None, None, fake_encoder) < 0.01


def test_an_older_unfinished_cache_is_not_mixed(
    tmp_path: Path, folder: Path, weights: Path
) -> None:
    assert make(folder, tmp_path / "old", weights, decoding=RAW, job=(0, 2)) is None
    forget_colors(tmp_path / "old" / ".progress" / "manifest.json")
    with pytest.raises(CacheError, match=r'colors: "as stored" before, "converted to sRGB" now'):
        make(folder, tmp_path / "old", weights)
    with pytest.raises(CacheError, match="encoding: 1 before, 2 now"):
        make(folder, tmp_path / "old", weights, decoding=RAW)


def test_images_with_too_many_pixels_are_skipped(
    tmp_path: Path, folder: Path, weights: Path
) -> None:
    for word in ("encode", "reconstruct", "equivariance"):
        out = tmp_path / ("out.png" if word == "reconstruct" else "out")
        options = ("--out", out, "--weights", weights, "--max-pixels", 100, "--size", 40)
        with pytest.raises(AuraError, match="every image was skipped"):
            invoke(app, word, folder, *options)
    with pytest.raises(CacheError, match=r"none of the images can be .*(\n.*)*--max-pixels"):
        cache("make", folder, "--out", tmp_path / "c", "--weights", weights, "--max-pixels", 100)


def test_a_broken_profile_is_noted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (8, 8), COLOR).save(tmp_path / "a.png", icc_profile=b"nonsense")
    inputs.pixels(ImageFile(tmp_path / "a.png"), Decoding())
    said = capsys.readouterr().err
    assert f"note: {tmp_path / 'a.png'}: its ICC profile is broken, and is ignored" in said


def test_training_decodes_by_the_spec(tmp_path: Path, folder: Path) -> None:
    images = find_images([folder])
    colors = {}
    for decoding in (Decoding(), RAW):
        skipped = Skipped(tmp_path / "skipped", len(images))
        data = batches(images, [Crops(8, 2)], seed=0, skipped=skipped, decoding=decoding)
        colors[decoding] = next(data).images[0, 0, 0].tolist()
    assert colors[RAW] == list(COLOR) != colors[Decoding()]


def test_an_older_run_kept_colors_as_stored(tmp_path: Path) -> None:
    spec, workdir = RunSpec("images", Recipe(steps=1), init="small"), Workdir(tmp_path / "run")
    workdir.open(spec)
    assert workdir.read_spec() == spec
    document = json.loads(workdir.spec.read_text())
    del document["decoding"]
    workdir.spec.write_text(json.dumps(document))
    assert workdir.read_spec() == dataclasses.replace(spec, decoding=RAW)


def test_errors_name_the_file_once(tmp_path: Path) -> None:
    (tmp_path / "device.png").symlink_to("/dev/zero")
    with pytest.raises(ImageError) as error:
        ImageFile(tmp_path / "device.png").pixels()
    assert str(error.value).count("device.png") == 1

"""A cache holds the latents of its pictures, however it is made and stored."""

import gc
import hashlib
import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import webdataset.compat
from PIL import Image

import aura_jax
from aura_jax import AuraEquiVAE
from aura_jax.images.io import read_image
from aura_jax.images.transforms import square_pixels
from aura_jax.latents import LatentSource, from_bytes
from aura_jax.latents.examples import find_slices
from aura_jax.latents.quantize import NUMPY_TYPES
from aura_jax.latents.spec import NumberType
from tests.cache_folder import (
    SIZE,
    cache,
    contents,
    made,
    manifest_of,
    options,
    photos,
    weights,
    write_tar,
)
from tests.photo_folder import write_photos

__all__ = ["made", "photos", "weights"]  # fixtures


def encoded(vae: AuraEquiVAE, path: Path) -> np.ndarray:
    """The latent of a picture's square, without any of the cache's code."""
    pixels = square_pixels(read_image(path), SIZE)
    return np.asarray(aura_jax.encode(vae, pixels[None]))[0]


def test_each_sample_is_the_latent_of_its_picture(made: Path, photos: Path, weights: Path) -> None:
    vae = aura_jax.load(weights, dtype=jnp.float32)
    source = LatentSource(made)
    assert len(source) == 11
    keys = [source[i]["key"] for i in range(11)]
    assert keys == [f"cats/{i:03}" for i in range(7)] + [f"dogs/{i:03}" for i in range(4)]
    for sample in (source[0], source[6], source[10]):
        expected = encoded(vae, photos / f"{sample['key']}.png")
        assert sample["latent"].shape == (8, 8, 16)
        assert sample["latent"].dtype == np.float32
        np.testing.assert_allclose(sample["latent"], expected, rtol=2**-8, atol=1e-5)
        assert sample["label"] == sample["key"].split("/")[0]
    assert source.classes == ("cats", "dogs")
    assert source[-1]["key"] == "dogs/003"
    with pytest.raises(IndexError, match="sample 11: the cache holds 11"):
        source[11]


def test_the_manifest_says_what_made_it(made: Path, photos: Path, weights: Path) -> None:
    manifest = manifest_of(made)
    settings = manifest["settings"]
    assert settings["weights"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert settings["config"]["ch"] == 32
    assert (settings["height"], settings["width"], settings["filter"]) == (SIZE, SIZE, "Lanczos")
    assert (settings["clamp"], settings["dtype"], settings["pictures"]) == (8.0, "bf16", 11)
    assert settings["aura_jax"] == "0.1.0"
    assert [shard["count"] for shard in manifest["shards"]] == [4, 4, 3]
    for shard in manifest["shards"]:
        data = (made / shard["file"]).read_bytes()
        assert shard["sha256"] == hashlib.sha256(data).hexdigest()
        assert shard["bytes"] == len(data)
    assert (made / manifest["origin"]["sources"][0]).resolve() == photos.resolve()
    assert {*contents(made)} == {
        "manifest.json",
        ".lock",
        *(f"{i:05}.arrayrecord" for i in range(3)),
    }


def test_a_second_cache_is_the_same_in_every_byte(made: Path, photos: Path, weights: Path) -> None:
    again = made.parent / "again"
    said = cache(photos, again, *options(weights))
    assert "11 latents in 3 shards" in said
    assert contents(again) == contents(made)
    cache(photos, again, *options(weights))  # nothing is left to do
    assert contents(again) == contents(made)


def test_paths_may_be_relative_and_linked(
    tmp_path: Path, photos: Path, weights: Path, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Work may run in other places, and a cache may be read from another one."""
    monkeypatch.chdir(photos)
    assert all(p.photo.path.is_absolute() for s in find_slices([Path()], 4) for p in s.pictures)
    cache(".", "../here", *options(weights))
    source = LatentSource("../here")
    monkeypatch.chdir(tmp_path)
    for a, b in zip(source, LatentSource(made), strict=True):
        np.testing.assert_array_equal(a["latent"], b["latent"])
    picture = (photos / "cats" / "000.png").read_bytes()
    (tmp_path / "blobs").mkdir()
    write_tar(tmp_path / "blobs" / "0ff1ce", {"0.png": picture})
    Path("shard.tar").symlink_to("blobs/0ff1ce")
    cache("shard.tar", "linked", *options(weights))
    assert "1 pictures encoded anew" in cache("verify", "linked")


def test_pictures_beside_folders_have_the_empty_label(tmp_path: Path, weights: Path) -> None:
    write_photos(write_photos(tmp_path / "photos", 1) / "cats", 1)
    cache(tmp_path / "photos", tmp_path / "out", *options(weights))
    source = LatentSource(tmp_path / "out")
    assert [sample["label"] for sample in source] == ["", "cats"]
    assert source.classes == ("", "cats")


def test_without_a_size_pictures_stay_as_they_are(
    tmp_path: Path, photos: Path, weights: Path
) -> None:
    cache(photos, tmp_path / "whole", "--weights", weights)
    assert LatentSource(tmp_path / "whole")[3]["latent"].shape == (12, 12, 16)


def test_tars_carry_their_labels_over(tmp_path: Path, weights: Path) -> None:
    pictures = [p.read_bytes() for p in sorted(write_photos(tmp_path / "p", 4).iterdir())]
    first = write_tar(
        tmp_path / "a.tar",
        {
            "a/0.png": pictures[0],
            "a/0.cls": b"-7\n",
            "a/0.json": b'{"label": 3, "url": "x"}',
            "a/1.json": b'{"label": 4}',
            "a/1.png": pictures[1],
        },
    )
    second = write_tar(
        tmp_path / "b.tar",
        {
            "2.seg.npy": b"?",
            "2.txt": "a caption, é".encode(),
            "2.png": pictures[2],
            "3.png": pictures[3],
            "3.cls": b"3.5",
        },
    )
    cache(first, second, tmp_path / "out", "--size", SIZE, "--weights", weights)
    source = LatentSource(tmp_path / "out")
    about = [{k: v for k, v in source[i].items() if k != "latent"} for i in range(len(source))]
    assert about == [
        {"key": "a/0", "label": -7, "cls": -7, "json": {"label": 3, "url": "x"}},
        {"key": "a/1", "label": 4, "json": {"label": 4}},
        {"key": "2", "label": "a caption, é", "txt": "a caption, é"},
        {"key": "3", "label": "3.5", "cls": "3.5"},
    ]
    assert [s["source"] for s in manifest_of(tmp_path / "out")["shards"]] == ["a.tar", "b.tar"]


@pytest.mark.parametrize("dtype", NUMPY_TYPES)
def test_both_formats_hold_the_same(
    tmp_path: Path, photos: Path, weights: Path, dtype: NumberType
) -> None:
    more = (*options(weights), "--dtype", dtype)
    cache(photos, tmp_path / "records", *more)
    cache(photos, tmp_path / "tars", *more, "--format", "webdataset")
    records, tars = LatentSource(tmp_path / "records"), LatentSource(tmp_path / "tars")
    for i in range(11):
        values, about = records.stored(i)
        assert values.dtype == NUMPY_TYPES[dtype]
        assert tars.stored(i)[1] == about
        np.testing.assert_array_equal(tars.stored(i)[0], values)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_webdataset_itself_reads_the_tars(tmp_path: Path, weights: Path) -> None:
    folder = write_photos(tmp_path / "photos", 3)
    (folder / "000.png").rename(folder / "v1.0.png")  # a dot, which would end WebDataset's key
    (folder / "001.png").rename(folder / "v1.1.png")
    out = tmp_path / "tars"
    cache(folder, out, "--weights", weights, "--format", "webdataset", "--size", SIZE)
    read = webdataset.compat.WebDataset(str(out / "00000.tar"), shardshuffle=False)
    samples = [(from_bytes(s["safetensors"]), json.loads(s["json"])) for s in read]
    del read
    gc.collect()  # it leaves its file to the collector, which warns
    source = LatentSource(out)
    assert [sample["key"] for sample, _ in samples] == ["002", "v1.0", "v1.1"]
    for i, (sample, about) in enumerate(samples):
        np.testing.assert_array_equal(sample["latent"], source[i]["latent"])
        assert about == {"key": sample["key"]}


def test_what_each_type_costs(photos: Path, tmp_path: Path, weights: Path) -> None:
    """Steps are relative for floats and 8/127 for int8, so errors are half of that at most."""
    exact = tmp_path / "float32"
    cache(photos, exact, *options(weights), "--dtype", "float32")
    limits = {"bf16": (2**-8, 0), "float8_e4m3fn": (2**-4, 2**-10), "int8": (0, 4 / 127)}
    for dtype, (relative, absolute) in limits.items():
        cache(photos, tmp_path / dtype, *options(weights), "--dtype", dtype)
        pairs = zip(LatentSource(exact), LatentSource(tmp_path / dtype), strict=True)
        for z, rounded in ((a["latent"], b["latent"]) for a, b in pairs):
            error = np.abs(rounded - z)
            assert (error <= relative * np.abs(z) + absolute + 1e-6).all()
            assert error.max() > 0


def test_pictures_of_every_kind(tmp_path: Path, weights: Path) -> None:
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
    cache(folder, tmp_path / "out", "--size", SIZE, "--weights", weights)
    vae = aura_jax.load(weights, dtype=jnp.float32)
    source = LatentSource(tmp_path / "out")
    assert len(source) == 5
    for path, sample in zip(sorted(folder.iterdir()), source, strict=True):
        np.testing.assert_allclose(sample["latent"], encoded(vae, path), rtol=2**-8, atol=1e-4)

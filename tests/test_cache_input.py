"""Faulty input gets one clear error, and nothing is lost or dropped silently."""

import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import aura_jax
from aura_jax import AuraError, ImageError
from aura_jax.errors import CacheError
from aura_jax.images.readers import ImageFile
from aura_jax.latents import LatentSource
from tests.cache_folder import (
    cache,
    contents,
    fake_encoder,
    finished,
    local,
    made,
    make,
    manifest_of,
    options,
    photos,
    weights,
    write_tar,
)
from tests.photo_folder import write_photos
from tests.random_models import random_vae

__all__ = ["made", "photos", "weights"]  # fixtures


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """Six image files, of which two cannot be read."""
    folder = write_photos(tmp_path / "damaged", 6)
    (folder / "001.png").write_bytes(b"not an image")
    (folder / "004.png").write_bytes((folder / "004.png").read_bytes()[:300])
    return folder


def test_skipped_images_are_listed_with_their_reason(
    tmp_path: Path, damaged: Path, weights: Path
) -> None:
    """The command lists them too; it needs no model for that."""
    finished(damaged, tmp_path / "out", weights)
    said = cache("make", damaged, "--out", tmp_path / "out", *options(weights))
    assert "4 latents in 2 shards" in said
    assert "2 images skipped, see its manifest.json" in said
    source = LatentSource(tmp_path / "out")
    assert [source[i]["key"] for i in range(4)] == ["000", "002", "003", "005"]
    assert source.manifest.skipped.keys() == {"001", "004"}
    assert "not an image" in source.manifest.skipped["001"]
    assert "truncated" in source.manifest.skipped["004"]
    assert [s["examples"] for s in manifest_of(tmp_path / "out")["shards"]] == [4, 2]


def test_too_many_skipped_images_are_an_error(tmp_path: Path, damaged: Path, weights: Path) -> None:
    out, over = tmp_path / "out", r"2 images skipped, over the limit of 1 \(--max-skipped\)"
    for _ in range(2):  # shards that are done count again the second time
        with pytest.raises(ImageError, match=rf"{over}(.*\n)+ *001: not an image"):
            make(damaged, out, weights, max_skipped=1)
    assert (out / "00000.arrayrecord").exists()  # which has one of them
    with pytest.raises(ImageError, match=over):
        cache("make", damaged, "--out", out, *options(weights), "--max-skipped", 1)
    assert len(finished(damaged, out, weights, max_skipped=2)) == 4


def test_a_disk_that_fails_does_not_skip_images(
    tmp_path: Path, photos: Path, made: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that cannot be read now may be readable later: the work stops, and resumes."""
    read = ImageFile.read

    def failing(photo: ImageFile) -> bytes:
        if photo.path.name == "005.png":
            raise OSError(5, "Input/output error", str(photo))
        return read(photo)

    out = made.parent / "resumed"
    monkeypatch.setattr(ImageFile, "read", failing)
    with pytest.raises(CacheError, match=r"005\.png: cannot be read now \(Input/output error\)"):
        make(photos, out, weights)
    monkeypatch.undo()
    make(photos, out, weights)
    assert contents(out) == contents(made)


def test_no_latent_at_all(tmp_path: Path, weights: Path) -> None:
    image = (write_photos(tmp_path / "p", 1) / "000.png").read_bytes()
    tar = write_tar(tmp_path / "a.tar", {"0.png": image[:99]})
    with pytest.raises(CacheError, match=r"none .* could be cached.*\n *0: "):
        make(tar, tmp_path / "out", weights)
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_weights_that_give_nan(tmp_path: Path, photos: Path, weights: Path) -> None:
    def broken(*args: object):
        encode = fake_encoder(*args)  # pyright: ignore[reportArgumentType]
        return lambda images: encode(images) * np.float32("nan")

    with pytest.raises(CacheError, match=r"tiny\.safetensors: gives latents that are NaN"):
        make(photos, tmp_path / "out", weights, executor=local(broken))


def test_weights_of_other_images(tmp_path: Path, photos: Path) -> None:
    config = aura_jax.AuraConfig(ch=32, ch_mult=(1, 2), num_res_blocks=1, in_channels=4)
    aura_jax.save(random_vae(config), tmp_path / "four.safetensors")
    with pytest.raises(AuraError, match=r"four\.safetensors: not a model of RGB images"):
        make(photos, tmp_path / "out", tmp_path / "four.safetensors")


def test_tars_that_would_lose_something(tmp_path: Path, photos: Path, weights: Path) -> None:
    image = (photos / "cats" / "000.png").read_bytes()
    names = [f"{i}.png" for i in range(4)]
    whole = write_tar(tmp_path / "whole.tar", dict.fromkeys(names, image))
    data = bytearray(whole.read_bytes())
    step = data.index(b"2.png") - data.index(b"1.png")
    (tmp_path / "cut.tar").write_bytes(data[: 3 * step])
    data[data.index(b"2.png") + 150] ^= 1  # within the checksum of a header
    (tmp_path / "damaged.tar").write_bytes(data)
    parted = {"0.png": image, "1.png": image, "0.cls": b"1"}
    two_labels = {"0.png": image, "0.cls": b"1", "./0.cls": b"2"}
    write_tar(tmp_path / "parted.tar", parted)
    write_tar(tmp_path / "labels.tar", two_labels)
    with tarfile.open(tmp_path / "link.tar", "w") as tar:
        tar.add(photos / "cats" / "000.png", "0.png")
        link = tarfile.TarInfo("1.png")
        link.type, link.linkname = tarfile.LNKTYPE, "0.png"
        tar.addfile(link)
    for name, message in {
        "cut": "truncated or corrupt: no end-of-archive marker at byte",
        "damaged": "truncated or corrupt: no end-of-archive marker at byte",
        "parted": "files of the example 0 are not next to each other",
        "labels": "several images or labels of a kind",
        "link": r"1\.png: a link",
    }.items():
        with pytest.raises(AuraError, match=message):
            make(tmp_path / f"{name}.tar", tmp_path / "out", weights)


def test_a_place_within_another(tmp_path: Path, photos: Path, weights: Path) -> None:
    for places in ([photos, photos / "cats"], [photos / "dogs" / "000.png", photos], [photos] * 2):
        with pytest.raises(CacheError, match="given twice, or lies within another"):
            make(places, tmp_path / "out", weights)


def test_no_images(tmp_path: Path, weights: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.tar").write_bytes(b"no tar" * 200)
    tar = write_tar(tmp_path / "none.tar", {"notes.txt": b"?"})
    for name, message in {
        "missing": "missing: no such file or folder",
        "empty": "empty: no images found",
        "bad.tar": r"bad\.tar: not a tar that can be read",
        tar.name: "a tar without images",
    }.items():
        with pytest.raises(AuraError, match=message):
            make(tmp_path / name, tmp_path / "out", weights)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_may_not_be_read(
    tmp_path: Path, photos: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its images would be missing from the cache silently."""
    scandir = os.scandir

    def refused(path: os.PathLike[str]):
        if Path(path).name == "dogs":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(PermissionError, match="dogs"):
        make(photos, tmp_path / "out", weights)


def test_images_that_all_cannot_be_read(tmp_path: Path, weights: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(b"?")
    with pytest.raises(CacheError, match=r"none of the images .*\n *a: not an image"):
        make(tmp_path / "photos", tmp_path / "out", weights, size=None)
    with pytest.raises(CacheError, match=r"none of the images could .*\n *a: not an image"):
        make(tmp_path / "photos", tmp_path / "out", weights)


def test_mixed_sizes_need_a_size(tmp_path: Path, weights: Path) -> None:
    folder = write_photos(tmp_path / "photos", 3)
    Image.new("RGB", (32, 48)).save(folder / "002.png")
    with pytest.raises(CacheError, match=r"002\.png: 32 x 48, .* are 48 x 48; give --size"):
        make(folder, tmp_path / "out", weights, size=None)
    assert not [*(tmp_path / "out").glob("*.arrayrecord")]
    assert len(finished(folder, tmp_path / "new", weights)) == 3


def test_sizes_that_the_model_cannot_take(tmp_path: Path, weights: Path) -> None:
    folder = write_photos(tmp_path / "photos", 1, size=27)
    for size in (None, 27, 0, -8):
        expected = "images of 27 x 27: expected multiples of 2; give --size"
        if size is not None:
            expected = f"^--size {size}: expected a positive multiple of 2$"
        with pytest.raises(CacheError, match=expected):
            make(folder, tmp_path / "out", weights, size=size)


def test_one_key_twice(tmp_path: Path, photos: Path, weights: Path) -> None:
    image = (photos / "cats" / "000.png").read_bytes()
    a, b = (write_tar(tmp_path / name, {"x/0.png": image}) for name in ("a.tar", "b.tar"))
    with pytest.raises(CacheError, match=r"key x/0: two .*a\.tar:x/0\.png and .*b\.tar:x/0\.png"):
        make([a, b], tmp_path / "out", weights)
    two = write_tar(tmp_path / "two.tar", {"0.png": image, "0.jpg": image})
    with pytest.raises(CacheError, match=r"one example with several .*: 0\.png, 0\.jpg"):
        make(two, tmp_path / "out", weights)


def test_folders_that_cannot_be_written(tmp_path: Path, photos: Path) -> None:
    """They are refused before images or weights are looked at: neither exists here."""
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("keep")
    none = tmp_path / "none"
    with pytest.raises(AuraError, match="notes: holds files, but no cache; give an empty folder"):
        make(none, tmp_path / "notes", none)
    with pytest.raises(AuraError, match=r"mine\.txt: is a file; give a folder"):
        make(none, tmp_path / "notes" / "mine.txt", none)
    with pytest.raises(AuraError, match=r"lies in .*, a folder of input images"):
        make(photos, photos / "latents", none)
    with pytest.raises(AuraError, match=r"^/proc/latents: cannot be written"):
        make(none, Path("/proc/latents"), none)
    assert (tmp_path / "notes" / "mine.txt").read_text() == "keep"

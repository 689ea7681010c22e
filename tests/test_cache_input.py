"""Bad input gets one clear error, and nothing is lost or dropped without a word."""

import os
import tarfile
from pathlib import Path

import jax.numpy as jnp
import pytest
from PIL import Image

import aura_jax
from aura_jax import AuraError
from aura_jax.errors import CacheError
from aura_jax.images.readers import ImageFile
from aura_jax.latents import LatentSource
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


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """Six pictures, of which two are none."""
    folder = write_photos(tmp_path / "damaged", 6)
    (folder / "001.png").write_bytes(b"not a picture")
    (folder / "004.png").write_bytes((folder / "004.png").read_bytes()[:300])
    return folder


def test_broken_pictures_are_listed_with_their_reason(
    tmp_path: Path, damaged: Path, weights: Path
) -> None:
    said = cache(damaged, tmp_path / "out", *options(weights))
    assert "4 latents in 2 shards" in said
    assert "2 pictures left out" in said
    source = LatentSource(tmp_path / "out")
    assert [source[i]["key"] for i in range(4)] == ["000", "002", "003", "005"]
    assert source.manifest.skipped.keys() == {"001", "004"}
    assert "not a picture" in source.manifest.skipped["001"]
    assert "truncated" in source.manifest.skipped["004"]
    assert [s["pictures"] for s in manifest_of(tmp_path / "out")["shards"]] == [4, 2]


def test_too_many_broken_pictures_are_an_error(
    tmp_path: Path, damaged: Path, weights: Path
) -> None:
    out = tmp_path / "out"
    for _ in range(2):  # shards that are done count again the second time
        with pytest.raises(CacheError, match=r"2 pictures .* over --max-bad 1(.*\n)+ *001: not a"):
            cache(damaged, out, *options(weights), "--max-bad", 1)
    assert (out / "00000.arrayrecord").exists()  # which has one of them
    assert "4 latents" in cache(damaged, out, *options(weights), "--max-bad", 2)


def test_labels_that_cannot_be_read_are_bad_too(tmp_path: Path, weights: Path) -> None:
    picture = (write_photos(tmp_path / "p", 1) / "000.png").read_bytes()
    members = {"0.png": picture, "0.json": b"{", "1.png": picture, "1.cls": b"\xff"}
    tar = write_tar(tmp_path / "a.tar", members | {"2.png": picture})
    cache(tar, tmp_path / "out", "--size", SIZE, "--weights", weights)
    reasons = LatentSource(tmp_path / "out").manifest.skipped
    assert "0.json: cannot be read" in reasons["0"]
    assert "1.cls: cannot be read" in reasons["1"]


def test_a_disk_that_fails_is_no_bad_picture(
    tmp_path: Path, photos: Path, made: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be read now may be there later: the work stops, and goes on."""
    read = ImageFile.read

    def failing(photo: ImageFile) -> bytes:
        if photo.path.name == "005.png":
            raise OSError(5, "Input/output error", str(photo))
        return read(photo)

    monkeypatch.setattr(ImageFile, "read", failing)
    with pytest.raises(CacheError, match=r"005\.png: cannot be read now \(Input/output error\)"):
        cache(photos, tmp_path / "out", *options(weights))
    monkeypatch.undo()
    cache(photos, tmp_path / "out", *options(weights))
    assert contents(tmp_path / "out") == contents(made)


def test_no_latent_at_all(tmp_path: Path, weights: Path) -> None:
    picture = (write_photos(tmp_path / "p", 1) / "000.png").read_bytes()
    tar = write_tar(tmp_path / "a.tar", {"0.png": picture, "0.json": b'{"label": NaN}'})
    with pytest.raises(CacheError, match=r"none .* could be cached.*\n *0: 0\.json: cannot.*NaN"):
        cache(tar, tmp_path / "out", "--size", SIZE, "--weights", weights)
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_weights_that_give_nan(tmp_path: Path, photos: Path, weights: Path) -> None:
    vae = aura_jax.load(weights, dtype=jnp.float32)
    vae.encoder.norm_out.scale[...] = 1e38
    vae.encoder.conv_out.kernel[...] *= 1e30
    aura_jax.save(vae, tmp_path / "loud.safetensors")
    with pytest.raises(CacheError, match=r"loud\.safetensors: gives latents that are NaN"):
        cache(photos, tmp_path / "out", *options(tmp_path / "loud.safetensors"))


def test_tars_that_would_lose_something(tmp_path: Path, photos: Path, weights: Path) -> None:
    picture = (photos / "cats" / "000.png").read_bytes()
    names = [f"{i}.png" for i in range(4)]
    whole = write_tar(tmp_path / "whole.tar", dict.fromkeys(names, picture))
    data = bytearray(whole.read_bytes())
    step = data.index(b"2.png") - data.index(b"1.png")
    (tmp_path / "cut.tar").write_bytes(data[: 3 * step])
    data[data.index(b"2.png") + 150] ^= 1  # within the checksum of a header
    (tmp_path / "damaged.tar").write_bytes(data)
    parted = {"0.png": picture, "1.png": picture, "0.cls": b"1"}
    two_labels = {"0.png": picture, "0.cls": b"1", "./0.cls": b"2"}
    write_tar(tmp_path / "parted.tar", parted)
    write_tar(tmp_path / "labels.tar", two_labels)
    with tarfile.open(tmp_path / "link.tar", "w") as tar:
        tar.add(photos / "cats" / "000.png", "0.png")
        link = tarfile.TarInfo("1.png")
        link.type, link.linkname = tarfile.LNKTYPE, "0.png"
        tar.addfile(link)
    for name, message in {
        "cut": "truncated or damaged at byte",
        "damaged": "truncated or damaged at byte",
        "parted": "files of the sample 0 are not together",
        "labels": "several pictures or labels of a kind",
        "link": r"1\.png: a link",
    }.items():
        with pytest.raises(AuraError, match=message):
            cache(tmp_path / f"{name}.tar", tmp_path / "out", *options(weights))
    hidden = {"._0.png": b"of a Mac", "0.png": picture, ".thumbs.png": b"?"}
    tar = write_tar(tmp_path / "mac.tar", hidden)
    assert "1 latents in 1 shards" in cache(tar, tmp_path / "out", *options(weights))


def test_a_source_within_another(tmp_path: Path, photos: Path) -> None:
    for places in ((photos, photos / "cats"), (photos / "dogs" / "000.png", photos), (photos,) * 2):
        with pytest.raises(CacheError, match="given twice, or lies within another"):
            cache(*places, tmp_path / "out", "--size", SIZE)


def test_no_pictures(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.tar").write_bytes(b"no tar" * 200)
    tar = write_tar(tmp_path / "none.tar", {"notes.txt": b"?"})
    for name, message in {
        "missing": "missing: no such folder, tar or picture",
        "empty": "empty: no pictures found",
        "bad.tar": r"bad\.tar: not a tar that can be read",
        tar.name: "a tar without pictures",
    }.items():
        with pytest.raises(AuraError, match=message):
            cache(tmp_path / name, tmp_path / "out", "--size", SIZE)
    with pytest.raises(CacheError, match=r"give pictures and, last, the folder"):
        cache(tmp_path / "empty")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_may_not_be_read(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pictures would be missing from the cache without a word."""
    scandir = os.scandir

    def refused(path: os.PathLike[str]):
        if Path(path).name == "dogs":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(PermissionError, match="dogs"):
        cache(photos, tmp_path / "out", "--size", SIZE)


def test_only_broken_pictures(tmp_path: Path, weights: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(b"?")
    with pytest.raises(CacheError, match=r"none of the 1 pictures .*\n *a: not a picture"):
        cache(tmp_path / "photos", tmp_path / "out", "--weights", weights)
    with pytest.raises(CacheError, match=r"none of the pictures could .*\n *a: not a picture"):
        cache(tmp_path / "photos", tmp_path / "out", *options(weights))


def test_mixed_sizes_need_a_size(tmp_path: Path, weights: Path) -> None:
    folder = write_photos(tmp_path / "photos", 3)
    Image.new("RGB", (32, 48)).save(folder / "002.png")
    with pytest.raises(CacheError, match=r"002\.png: 32 x 48, .* are 48 x 48; give --size"):
        cache(folder, tmp_path / "out", "--weights", weights)
    assert not [*(tmp_path / "out").glob("*.arrayrecord")]
    assert "3 latents" in cache(folder, tmp_path / "new", "--weights", weights, "--size", SIZE)


def test_sizes_that_the_model_cannot_take(tmp_path: Path, weights: Path) -> None:
    folder = write_photos(tmp_path / "photos", 1, size=27)
    with pytest.raises(CacheError, match="pictures of 27 x 27: expected multiples of 2; give"):
        cache(folder, tmp_path / "out", "--weights", weights)
    for size in (100, 0, -8):
        with pytest.raises(
            CacheError, match=f"pictures of {size} x {size}: expected multiples of 8"
        ):
            cache(folder, tmp_path / "out", f"--size={size}")


def test_one_key_twice(tmp_path: Path, photos: Path) -> None:
    picture = (photos / "cats" / "000.png").read_bytes()
    a, b = (write_tar(tmp_path / name, {"x/0.png": picture}) for name in ("a.tar", "b.tar"))
    with pytest.raises(CacheError, match=r"key x/0: two .*a\.tar:x/0\.png and .*b\.tar:x/0\.png"):
        cache(a, b, tmp_path / "out", "--size", SIZE)
    two = write_tar(tmp_path / "two.tar", {"0.png": picture, "0.jpg": picture})
    with pytest.raises(CacheError, match=r"one sample with several .*: 0\.png, 0\.jpg"):
        cache(two, tmp_path / "out", "--size", SIZE)


def test_folders_that_are_taken(tmp_path: Path, photos: Path, made: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("keep")
    with pytest.raises(CacheError, match="holds files, but no cache"):
        cache(photos, tmp_path / "notes", "--size", SIZE)
    with pytest.raises(AuraError, match=r"mine\.txt: is a file, give a folder"):
        cache(photos, tmp_path / "notes" / "mine.txt", "--size", SIZE)
    with pytest.raises(CacheError, match="lies within"):
        cache(photos, photos / "latents", "--size", SIZE)
    assert (tmp_path / "notes" / "mine.txt").read_text() == "keep"

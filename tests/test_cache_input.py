"""Bad input gets one clear error, and nothing is lost or dropped without a word."""

import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import aura_jax
from aura_jax import AuraError
from aura_jax.errors import CacheError
from aura_jax.latents import LatentSource
from aura_jax.photo_files import Photo
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
    read = Photo.read

    def failing(photo: Photo) -> bytes:
        if photo.path.name == "005.png":
            raise OSError(5, "Input/output error", str(photo))
        return read(photo)

    monkeypatch.setattr(Photo, "read", failing)
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
    for size in ((), ("--size", SIZE)):
        with pytest.raises(CacheError, match=r"none of the 1 pictures .*\n *a: not a picture"):
            cache(tmp_path / "photos", tmp_path / "out", "--weights", weights, *size)


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


def test_reading_what_is_no_cache(tmp_path: Path, made: Path) -> None:
    with pytest.raises(CacheError, match=r"no finished cache of latents"):
        LatentSource(tmp_path)
    manifest = manifest_of(made)
    settings, origin, shard = manifest["settings"], manifest["origin"], manifest["shards"][0]
    for change in (
        {"version": 2},
        {"version": 0},
        {"version": float("nan")},
        {"settings": None},
        {"settings": {k: v for k, v in settings.items() if k != "config"}},
        {"settings": settings | {"dtype": "int4"}},
        {"settings": settings | {"height": "16"}},
        {"origin": origin | {"per_shard": 0}},
        {"origin": origin | {"sources": [1]}},
        {"shards": [{"file": "x"}]},
        {"shards": [shard | {"count": -4}]},
        {"shards": [shard | {"count": "4"}]},
        {"shards": [shard | {"file": None}]},
        {"shards": [shard | {"skipped": []}]},
        {"statistics": {"mean": [1]}},
        {"more": 1},
    ):
        (tmp_path / "manifest.json").write_text(json.dumps(manifest | change))
        newer = r"of version 2, .* up to 1; update"
        with pytest.raises(CacheError, match=newer if change == {"version": 2} else "manifest"):
            LatentSource(tmp_path)
    for text in ("{", "[]", "{}"):
        (tmp_path / "manifest.json").write_text(text)
        with pytest.raises(CacheError, match="not a sound manifest"):
            LatentSource(tmp_path)


def test_a_truncated_shard_names_the_record(tmp_path: Path, made: Path) -> None:
    for name, data in contents(made).items():
        (tmp_path / name).write_bytes(data)
    os.truncate(tmp_path / "00001.arrayrecord", 70_000)
    source = LatentSource(tmp_path)
    assert source[0]["key"] == "cats/000"  # others can be read
    with pytest.raises(CacheError, match=r"00001\.arrayrecord, record 2: cannot be read .*verify"):
        source[6]
    (tmp_path / "00002.arrayrecord").write_bytes(os.urandom(200_000))
    with pytest.raises(CacheError, match=r"00002\.arrayrecord, record 0: cannot be read"):
        source[8]


def test_a_truncated_tar_names_the_record(tmp_path: Path, photos: Path, weights: Path) -> None:
    out = tmp_path / "tars"
    cache(photos, out, *options(weights), "--format", "webdataset")
    os.truncate(out / "00000.tar", 5000)
    with pytest.raises(CacheError, match=r"00000\.tar, record 3: cannot be read"):
        LatentSource(out)[3]


def test_verify_finds_what_is_wrong(tmp_path: Path, made: Path, photos: Path) -> None:
    out = made.parent / "damaged"  # beside `made`, so that the pictures are where they were
    good = contents(made)
    assert "11 latents in 3 shards are whole" in cache("verify", made)

    def written(**changes: bytes | None) -> Path:
        out.mkdir(exist_ok=True)
        for name, data in (good | changes).items():
            (out / name).write_bytes(data or b"")
            if data is None:
                (out / name).unlink()
        return out

    shard = bytearray(good["00001.arrayrecord"])
    shard[len(shard) // 8] ^= 1
    swapped = {"00000.arrayrecord": good["00001.arrayrecord"]}

    def edited(change: Callable[[list], object]) -> dict[str, bytes]:
        manifest = manifest_of(made)
        change(manifest["shards"])
        return {"manifest.json": json.dumps(manifest).encode()}

    def swap(shards: list) -> None:
        shards[0] = shards[1] | {"file": "00000.arrayrecord"}

    def miscount(shards: list) -> None:
        shards[2]["pictures"] = 4

    for changes, message in (
        ({"00001.arrayrecord": bytes(shard)}, r"00001\.arrayrecord: its sha256"),
        ({"00001.arrayrecord": None}, r"00001\.arrayrecord: missing"),
        ({"00001.arrayrecord": good["00001.arrayrecord"][:-9]}, r"truncated"),
        (swapped, r"00000\.arrayrecord: its sha256"),
        (swapped | edited(swap), "its 11 keys are not those of the 11 pictures"),
        (edited(lambda shards: shards.pop()), "its 8 keys are not those of the 11 pictures"),
        (edited(miscount), "3 latents, expected 3; with 0 left out, of 4 pictures"),
    ):
        with pytest.raises(CacheError, match=rf"{message}(.*\n)*delete damaged files"):
            cache("verify", written(**changes), "--sample", 0)


def test_verify_encodes_pictures_anew(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = write_photos(tmp_path / "photos", 3), tmp_path / "out"
    cache(folder, out, *options(weights))
    assert "3 pictures encoded anew: within 0" in cache("verify", out)
    monkeypatch.chdir(folder)  # paths are relative to the cache, not to here
    assert "2 pictures encoded anew" in cache("verify", out, "--sample", 2)
    with pytest.raises(CacheError, match=r"small: not the weights(.*\n)+ *given: sha256 0ca7"):
        cache("verify", out, "--weights", "small")
    noise = np.random.default_rng(1).integers(0, 256, (48, 48, 3), np.uint8)
    Image.fromarray(noise).save(folder / "001.png")
    with pytest.raises(CacheError, match=r"001: encoded anew its latent differs by"):
        cache("verify", out)
    (folder / "001.png").rename(folder / "other.png")
    with pytest.raises(CacheError, match=r"not those that were cached.*--sample 0"):
        cache("verify", out)
    (folder / "other.png").rename(folder / "001.png")
    Image.new("RGB", (32, 48)).save(folder / "001.png")
    with pytest.raises(CacheError, match=r"001: encoded anew its latent differs"):
        cache("verify", out)
    folder.rename(tmp_path / "elsewhere")
    with pytest.raises(CacheError, match=r"photos: no such folder.*give --sample 0"):
        cache("verify", out)
    assert "3 latents" in cache("verify", out, "--sample", 0)
    write_photos(folder, 3).rename(tmp_path / "again")
    assert "within 0" in cache("verify", out, "--pictures", tmp_path / "again")


def test_verify_when_pictures_have_another_size(tmp_path: Path, weights: Path) -> None:
    folder, out = write_photos(tmp_path / "photos", 2), tmp_path / "out"
    cache(folder, out, "--weights", weights)
    write_photos(folder, 2, size=24)
    with pytest.raises(CacheError, match=r"000: the picture is of another size now"):
        cache("verify", out)

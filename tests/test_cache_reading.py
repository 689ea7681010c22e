"""Reading and verifying: damage is named, wherever it is."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aura_jax.errors import CacheError
from aura_jax.latents import LatentSource
from tests.cache_folder import (
    cache,
    contents,
    made,
    manifest_of,
    options,
    photos,
    weights,
)
from tests.photo_folder import write_photos

__all__ = ["made", "photos", "weights"]  # fixtures


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

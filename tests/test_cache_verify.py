"""Verifying a cache: damage is named, and images are encoded again."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aura_jax.checkpoint.hub import find_checkpoint
from aura_jax.errors import CacheError, ImageError
from aura_jax.images.readers import check_skipped
from aura_jax.latents import LatentSource
from aura_jax.latents.verify import check_sample
from tests.cache_folder import (
    SIZE,
    cache,
    contents,
    encoded,
    fake_encoder,
    finished,
    made,
    manifest_of,
    photos,
    weights,
)
from tests.photo_folder import write_photos

__all__ = ["encoded", "made", "photos", "weights"]  # fixtures


def test_verify_finds_all_damage(tmp_path: Path, made: Path) -> None:
    good = contents(made)
    assert "11 latents in 3 shards, all whole" in cache("verify", made, "--sample", 0)

    def written(**changes: bytes | None) -> Path:
        for name, data in (good | changes).items():
            (tmp_path / name).write_bytes(data or b"")
            if data is None:
                (tmp_path / name).unlink()
        return tmp_path

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
        shards[2]["examples"] = 4

    for changes, message in (
        ({"00001.arrayrecord": bytes(shard)}, r"00001\.arrayrecord: its sha256"),
        ({"00001.arrayrecord": None}, r"00001\.arrayrecord: missing"),
        ({"00001.arrayrecord": good["00001.arrayrecord"][:-9]}, r"truncated"),
        (swapped, r"00000\.arrayrecord: its sha256"),
        (swapped | edited(swap), "the 11 keys of the shards are not those of the images"),
        (edited(lambda shards: shards.pop()), "images is 11, but the shards have 8 keys"),
        (edited(miscount), "3 latents, expected 3; with 0 skipped, of 4 images"),
    ):
        with pytest.raises(CacheError, match=rf"{message}(.*\n)*delete damaged files"):
            cache("verify", written(**changes), "--sample", 0)


def test_verify_encodes_images_again(encoded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Uses the real model, through the command."""
    monkeypatch.chdir(encoded)  # paths are relative to the cache, not to here
    assert "11 images encoded again: within 0" in cache("verify", encoded)
    small = hashlib.sha256(find_checkpoint("small").read_bytes()).hexdigest()
    with pytest.raises(CacheError, match=rf"small: not the weights(.*\n)+ *given: sha256 {small}"):
        cache("verify", encoded, "--weights", "small")


def test_verify_finds_images_that_changed(tmp_path: Path, weights: Path) -> None:
    folder, out = write_photos(tmp_path / "photos", 3), tmp_path / "out"
    finished(folder, out, weights)

    def distance(count: int = 3, images: list[Path] | None = None) -> float:
        return check_sample(LatentSource(out), count, None, images, fake_encoder)

    assert distance() == 0
    assert distance(2) == 0
    noise = np.random.default_rng(1).integers(0, 256, (48, 48, 3), np.uint8)
    Image.fromarray(noise).save(folder / "001.png")
    with pytest.raises(CacheError, match=r"001: encoded again its latent differs by"):
        distance()
    (folder / "001.png").rename(folder / "other.png")
    with pytest.raises(CacheError, match=r"not those that were cached.*--sample 0"):
        distance()
    (folder / "other.png").rename(folder / "001.png")
    (folder / "001.png").write_bytes(b"?")
    with pytest.raises(CacheError, match=r"001: the image cannot be read now \(not an image"):
        distance()
    folder.rename(tmp_path / "elsewhere")
    with pytest.raises(CacheError, match=r"photos: no such file.*--sample 0"):
        distance()
    write_photos(folder, 3).rename(tmp_path / "again")
    assert distance(images=[tmp_path / "again"]) == 0


def test_verify_when_images_have_another_size(tmp_path: Path, weights: Path) -> None:
    folder, out = write_photos(tmp_path / "photos", 2), tmp_path / "out"
    finished(folder, out, weights, size=None)
    write_photos(folder, 2, size=SIZE)
    with pytest.raises(CacheError, match=r"000: the image has another size now"):
        check_sample(LatentSource(out), 2, None, None, fake_encoder)


def test_verify_finds_an_edited_spec(tmp_path: Path, made: Path) -> None:
    for changes, problems in (
        ({"images": 12}, "images is 12, but the shards have 11 keys"),
        ({"height": 17}, "height is 17, but images have multiples of 2"),
        ({"width": 32}, r"record 0: bfloat16 of shape \(8, 8, 16\), expected .* \(8, 16, 16\)"),
    ):
        shutil.copytree(made, tmp_path, dirs_exist_ok=True)
        manifest = manifest_of(made)
        manifest["spec"] |= changes
        (tmp_path / "manifest.json").write_text(json.dumps(manifest))
        with pytest.raises(CacheError, match=problems):
            cache("verify", tmp_path, "--sample", 0)


def test_one_is_singular(tmp_path: Path, weights: Path) -> None:
    out = tmp_path / "out"
    finished(write_photos(tmp_path / "photos", 1), out, weights)
    assert "1 latent in 1 shard, all whole; with 0 skipped images" in cache(
        "verify", out, "--sample", 0
    ).replace("\n", " ")
    with pytest.raises(ImageError, match=r"^1 image skipped, over the limit of 0"):
        check_skipped({"a": "broken"}, 0, "--max-skipped")

"""Reading and verifying: damage is named, wherever it is."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch.utils.data
from PIL import Image

from aura_jax.checkpoint.hub import find_checkpoint
from aura_jax.errors import CacheError, ImageError
from aura_jax.images.readers import check_skipped
from aura_jax.latents import LatentSource, RandomFlip
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
from tests.conftest import ROOT
from tests.photo_folder import write_photos

__all__ = ["encoded", "made", "photos", "weights"]  # fixtures


def test_damaged_manifests(tmp_path: Path, made: Path) -> None:
    """Each gets one sentence that names the file, and where it can, the entry."""
    with pytest.raises(CacheError, match=r"not a finished cache of latents"):
        LatentSource(tmp_path)
    manifest = manifest_of(made)
    spec, environment, shard = manifest["spec"], manifest["environment"], manifest["shards"][0]
    for change, entry in (
        ({"version": 0}, "version"),
        ({"version": "2"}, "version"),
        ({"version": float("nan")}, ""),
        ({"spec": None}, "spec"),
        ({"spec": {k: v for k, v in spec.items() if k != "config"}}, "spec"),
        ({"spec": spec | {"config": {"ch": 5}}}, "spec.config"),
        ({"spec": spec | {"storage_dtype": "int4"}}, "spec.storage_dtype"),
        ({"spec": spec | {"compute_dtype": "int8"}}, "spec"),
        ({"spec": spec | {"format": "zip"}}, "spec.format"),
        ({"spec": spec | {"height": "16"}}, "spec.height"),
        ({"spec": spec | {"per_shard": 0}}, "spec"),
        ({"environment": environment | {"batch": 0}}, "environment.batch"),
        ({"origin": {"weights": "small", "images": [1]}}, "origin.images[0]"),
        ({"shards": [{"file": "x"}]}, "shards[0]"),
        ({"shards": [shard | {"count": -4}]}, "shards[0].count"),
        ({"shards": [shard | {"count": True}]}, "shards[0].count"),
        ({"shards": [shard | {"file": None}]}, "shards[0].file"),
        ({"shards": [shard | {"skipped": []}]}, "shards[0].skipped"),
        ({"statistics": {"mean": [1]}}, "statistics"),
    ):
        (tmp_path / "manifest.json").write_text(json.dumps(manifest | change))
        with pytest.raises(
            CacheError, match=r"manifest\.json: cannot be read \(.*\); restore"
        ) as e:
            LatentSource(tmp_path)
        assert entry in str(e.value)
        assert "\n" not in str(e.value)
    for data in (b"{", b"[]", b"{}", b"\xff", b"[" * 100_000):
        (tmp_path / "manifest.json").write_bytes(data)
        with pytest.raises(CacheError, match="cannot be read"):
            LatentSource(tmp_path)


def test_manifests_of_other_versions(tmp_path: Path, made: Path) -> None:
    for version, message in (
        (1, r"manifest\.json: version 1, made by an earlier aura-jax; make the cache again"),
        (3, r"version 3, but this aura-jax reads version 2; update it"),
    ):
        (tmp_path / "manifest.json").write_text(json.dumps({"version": version}))
        with pytest.raises(CacheError, match=message):
            LatentSource(tmp_path)


READER = """
import sys
for name in ("jax", "flax", "typer", "grain", "rich"):
    sys.modules[name] = None
import numpy as np
import aura_jax.latents
from aura_jax.latents import LatentSource, RandomFlip, from_bytes, normalize
source, flip = LatentSource(sys.argv[1]), RandomFlip(p_horizontal=1.0)
sample = flip(source[3], np.random.default_rng(0))
signs = [1] * 12 + [-1, -1, 1, 1]
expected = source[3]["latent"][:, ::-1] * np.array(signs, np.float32)
assert np.array_equal(sample["latent"], expected)
assert sample["key"] == "cats/003"
z = normalize(sample["latent"], source.statistics)
assert z.dtype == np.float32 and abs(z).max() < 20
for latents in ([1.0], z):
    try:
        normalize(latents, None)
    except aura_jax.AuraError as error:
        print(error)
"""


def test_reading_needs_neither_jax_nor_grain(measured: Path) -> None:
    """The workers of a PyTorch DataLoader need this."""
    result = subprocess.run(
        [sys.executable, "-c", READER, measured],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == [
        "latents: expected a jax or numpy array, got a list",
        "statistics: expected a model, its latent_stats or LatentSource.statistics, got None",
    ]


@pytest.fixture(scope="module")
def measured(made: Path) -> Path:
    """A copy of the cache with statistics."""
    out = made.parent / "measured"
    out.mkdir()
    for name, data in contents(made).items():
        (out / name).write_bytes(data)
    cache("stats", out)
    return out


class Flipped(torch.utils.data.Dataset):
    """Samples, each flipped: a data set as PyTorch's workers take it."""

    def __init__(self, source: LatentSource):
        self.source, self.flip = source, RandomFlip(p_horizontal=1.0)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Any:
        return self.flip(self.source[index], np.random.default_rng(index))["latent"]


@pytest.mark.filterwarnings("ignore:.*fork.*")
def test_pytorchs_workers_read_it(made: Path) -> None:
    """They can also be forked from a process that has already read from it."""
    source = LatentSource(made)
    expected = np.stack([Flipped(source)[i] for i in range(11)])
    loader = torch.utils.data.DataLoader(
        Flipped(source), batch_size=4, num_workers=2, multiprocessing_context="fork", timeout=60
    )
    np.testing.assert_array_equal(torch.cat([*loader]).numpy(), expected)


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
    finished(photos, out, weights, format="webdataset")
    os.truncate(out / "00000.tar", 5000)
    with pytest.raises(CacheError, match=r"00000\.tar, record 3: cannot be read"):
        LatentSource(out)[3]


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


@pytest.mark.parametrize("index", [1, -10, True, np.int64(1), np.uint8(1)])
def test_a_sample_is_indexed_by_any_integer(made: Path, index: Any) -> None:
    assert LatentSource(made)[index]["key"] == "cats/001"


INDEXED = """
import sys
from aura_jax.latents import LatentSource
source = LatentSource(sys.argv[1])
for index in (1.0, "1", None, slice(2)):
    try:
        source[index]
    except TypeError:
        continue
    sys.exit(f"{index!r}")
"""


def test_a_sample_is_indexed_by_integers_alone(made: Path) -> None:
    """In a process without jaxtyping's checks, which raise TypeError too."""
    subprocess.run([sys.executable, "-c", INDEXED, str(made)], check=True, cwd=ROOT)

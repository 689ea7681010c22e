"""Caches that others have written: a manifest is not trusted, and a folder may be read-only."""

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from aura_jax.cli.app import app
from aura_jax.errors import CacheError
from aura_jax.latents import LatentSource
from aura_jax.latents.json_file import MAX_BYTES
from tests.cache_folder import cache, contents, made, make, manifest_of, photos, weights

__all__ = ["made", "photos", "weights"]  # fixtures


@pytest.fixture
def folder(tmp_path: Path, made: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "latents"))


def change(path: Path, **entries: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


@pytest.mark.parametrize(
    "name",
    ["../outside", "/etc/passwd", "..", ".", "", "00000.tar/../../x", "0.tar", "a\0b", "00000.TAR"],
)
def test_names_of_shards_stay_in_the_folder(folder: Path, name: str) -> None:
    first, *rest = manifest_of(folder)["shards"]
    change(folder / "manifest.json", shards=[first | {"file": name}, *rest])
    with pytest.raises(CacheError, match=r"expected a name such as .* at `\$.shards\[0\]`"):
        LatentSource(folder)


def unfinished(folder: Path) -> Path:
    """Turn a finished cache into one with notes of its shards, as a killed run leaves it."""
    manifest, notes = manifest_of(folder), folder / ".progress"
    notes.mkdir()
    for shard in manifest["shards"]:
        (notes / f"{shard['file']}.json").write_text(json.dumps(shard))
    (folder / "manifest.json").rename(notes / "manifest.json")
    change(notes / "manifest.json", shards=[])
    return notes


def test_a_note_speaks_of_its_own_shard(folder: Path, photos: Path, weights: Path) -> None:
    """Otherwise an unfinished shard would count as whole, or an outside file as a shard."""
    before = contents(folder)
    notes = unfinished(folder)
    first, second = sorted(notes.glob("0*.json"))[:2]
    text = first.read_text()
    first.write_text(second.read_text())
    with pytest.raises(CacheError, match=rf"{first.name}: is the note of 00001.*; delete it"):
        make(photos, folder, weights)
    change(first, file="../../outside")
    with pytest.raises(CacheError, match=r"expected a name such as"):
        make(photos, folder, weights)
    first.write_text(text)
    make(photos, folder, weights)
    after = contents(folder)
    assert {name: after[name] for name in before} == before


@pytest.mark.parametrize(
    "data", [b"\xff\xfe", b"[" * 100_000, b"{}", b"null", b'{"version": 1e99}']
)
def test_damaged_files_are_named(folder: Path, data: bytes, photos: Path, weights: Path) -> None:
    unfinished(folder)
    for path in (
        folder / ".progress" / "00001.arrayrecord.json",
        folder / ".progress/manifest.json",
    ):
        path.write_bytes(data)
        with pytest.raises(CacheError, match=rf"{path.name}: cannot be read .*; restore it"):
            make(photos, folder, weights)


def test_a_manifest_is_a_file_of_bounded_size(folder: Path) -> None:
    path = folder / "manifest.json"
    with path.open("r+b") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(CacheError, match=r"not a file of at most 268435456 bytes"):
        LatentSource(folder)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(CacheError, match=r"not a file of at most"):
        LatentSource(folder)


def test_a_read_only_cache_is_measured(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*args: object, **options: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    before, stored = contents(folder), json.loads(cache("stats", folder, "--json"))
    assert contents(folder) != before  # they are in the manifest
    before = contents(folder)
    monkeypatch.setattr("aura_jax.latents.locks.locked", refused)
    result = CliRunner().invoke(app, ["cache", "stats", str(folder), "--json"])
    assert result.exit_code == 0
    assert json.loads(result.stdout) == stored
    assert "shown, but not stored (Read-only file system)" in result.stderr
    assert "11 latents in 3 shards, all whole" in cache("verify", folder, "--sample", 0)
    assert contents(folder) == before


def test_statistics_of_a_cache_that_has_changed_meanwhile_are_not_stored(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aura_jax.latents.measure import measure, store

    source = LatentSource(folder)
    found = measure(source, lambda count: None)
    environment = manifest_of(folder)["environment"]
    change(folder / "manifest.json", environment=environment | {"batch": 5})
    with pytest.raises(CacheError, match="has changed meanwhile; measure it again"):
        store(source, found)


def test_counts_of_a_shard_are_bounded(folder: Path) -> None:
    first, *rest = manifest_of(folder)["shards"]
    change(folder / "manifest.json", shards=[first | {"count": 10**30}, *rest])
    with pytest.raises(CacheError, match=r"shards\[0\].count"):
        LatentSource(folder)


@pytest.mark.parametrize("named", [[], [1, 1, 2], [0, 2]])
def test_a_manifest_that_lacks_shards_is_completed(
    folder: Path, named: list[int], photos: Path, weights: Path
) -> None:
    before, shards = contents(folder), manifest_of(folder)["shards"]
    change(folder / "manifest.json", shards=[shards[i] for i in named])
    make(photos, folder, weights)
    assert contents(folder) == before


def test_statistics_need_latents_of_the_manifest_s_shape(folder: Path) -> None:
    manifest = manifest_of(folder)
    change(folder / "manifest.json", shards=[])
    with pytest.raises(CacheError, match="no latents"):
        cache("stats", folder)
    config = manifest["spec"]["config"] | {"z_channels": 32}
    change(folder / "manifest.json", shards=manifest["shards"])
    change(folder / "manifest.json", spec=manifest["spec"] | {"config": config})
    with pytest.raises(CacheError, match=r"of shape .*, expected .*32\)"):
        cache("stats", folder)


def test_statistics_fit_the_latents(folder: Path) -> None:
    found = json.loads(cache("stats", folder, "--json"))
    more = found | {name: [0.5, *found[name]] for name in ("mean", "std")}
    change(folder / "manifest.json", statistics=more)
    with pytest.raises(CacheError, match="statistics of 17 channels, but latents have 16"):
        LatentSource(folder)


def test_places_whose_names_are_not_utf_8(tmp_path: Path, photos: Path, weights: Path) -> None:
    place, out = tmp_path / os.fsdecode(b"caf\xe9"), tmp_path / "out"
    shutil.copytree(photos, place / "in")
    shutil.copy(weights, place / "tiny")
    manifest = make(place / "in", out, place / "tiny")
    assert manifest is not None
    assert manifest.origin.images == (f"../{place.name}/in",)
    assert LatentSource(out).manifest == manifest
    with pytest.raises(CacheError, match="the path is not in UTF-8; give another folder"):
        make(photos, place / "out", weights)
    assert not (place / "out").exists()

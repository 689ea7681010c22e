"""Labels and keys: damaged metadata never costs an image, and files left out are counted."""

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from aura_jax.errors import CacheError
from aura_jax.latents import LatentSource
from aura_jax.latents.verify import check_sample, check_shards
from tests.cache_folder import (
    cache,
    fake_encoder,
    finished,
    manifest_of,
    options,
    weights,
    write_tar,
)
from tests.photo_folder import write_photos

__all__ = ["weights"]  # a fixture


@pytest.fixture
def photo(tmp_path: Path) -> bytes:
    return (write_photos(tmp_path / "one", 1, size=24) / "000.png").read_bytes()


def samples(folder: Path) -> list[dict[str, Any]]:
    source = LatentSource(folder)
    return [source[i] for i in range(len(source))]


def test_labels_in_every_encoding(tmp_path: Path, photo: bytes, weights: Path) -> None:
    """The image is kept, byte order marks are removed, and unreadable labels are counted."""
    labels = {
        "0.txt": ("ä dog".encode("utf-8-sig"), "ä dog"),
        "1.txt": ("ä dog".encode("utf-16-le"), None),  # without a mark it could be anything
        "2.txt": ("ä dog".encode("utf-16"), "ä dog"),
        "3.txt": (b"\xfe\xff" + "ä dog".encode("utf-16-be"), "ä dog"),
        "4.txt": ("ä dog".encode("cp1252"), None),
        "5.cls": (b"\xef\xbb\xbf7", 7),
        "6.json": (b'\xef\xbb\xbf{"label": 4}', 4),
        "7.json": (b'{"label": NaN, "a": [1e999, -Infinity, 2.5]}', None),
        "8.json": (b"[" * 100_000, None),
        "9.cls": (b"9" * 5000, None),
    }
    files = {}
    for name, (data, _) in labels.items():
        files |= {f"{name[0]}.png": photo, name: data}
    tar = write_tar(tmp_path / "a.tar", files)
    manifest = finished(tar, tmp_path / "out", weights)
    found = samples(tmp_path / "out")
    assert [each.get("label") for each in found] == [label for _, label in labels.values()]
    assert found[7]["json"] == {"label": None, "a": [None, None, 2.5]}
    assert "txt" not in found[4]
    assert manifest.problems == {
        "unreadable .txt": 2,
        "unreadable .json": 1,
        "unreadable .cls": 1,
        ".json with NaN or infinity, kept as null": 1,
    }


def test_the_label_is_the_first_folder(tmp_path: Path, photo: bytes, weights: Path) -> None:
    """As torchvision's ImageFolder has it; a linked class is a class too."""
    for name in ("cat/train/a", "dog/train/b", "dog/val/deep/c", "d"):
        path = tmp_path / "photos" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(photo)
    (tmp_path / "photos" / "kitten").symlink_to("cat")
    manifest = finished(tmp_path / "photos", tmp_path / "out", weights)
    assert manifest.classes == ("", "cat", "dog", "kitten")
    assert {each["key"]: each["label"] for each in samples(tmp_path / "out")} == {
        "cat/train/a": "cat",
        "d": "",
        "dog/train/b": "dog",
        "dog/val/deep/c": "dog",
        "kitten/train/a": "kitten",
    }


def test_equal_keys_in_two_tars(tmp_path: Path, photo: bytes, weights: Path) -> None:
    """The error names the option, and resuming and verifying use it too."""
    folder, out = tmp_path / "tars", tmp_path / "out"
    for name in ("0", "1", "b/1"):
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        write_tar(folder / f"{name}.tar", {"a.png": photo, "b.png": photo})
    with pytest.raises(CacheError, match=r"key a: two images .*tar's name: --prefix-keys"):
        finished(folder, out, weights)
    finished(folder, out, weights, prefix_keys=True)
    manifest = finished(folder, out, weights, prefix_keys=True)
    assert [each["key"] for each in samples(out)] == ["0/a", "0/b", "1/a", "1/b", "b/1/a", "b/1/b"]
    assert manifest.spec.prefix_keys
    check_shards(LatentSource(out), lambda count: None)
    assert check_sample(LatentSource(out), 6, str(weights), None, fake_encoder) < 1e-2
    with pytest.raises(CacheError, match="prefix_keys: true before, false now"):
        finished([folder / "0.tar"], out, weights)


def test_files_left_out_are_counted(tmp_path: Path, photo: bytes, weights: Path) -> None:
    """In the manifest, and in the output of make and stats."""
    folder, out = tmp_path / "photos", tmp_path / "out"
    folder.mkdir()
    for name in ("a.png", "b", "c.jpg?x=1", "d.txt", "e.cr2", ".f.png"):
        (folder / name).write_bytes(photo if name < "d" else b"II*\0")
    files = {"0.png": photo, "0.txt": b"\xff", "0.m.png": photo, "1.json": b"{}"}
    write_tar(folder / "g.tar", files)
    counts = {".cr2": 1, ".txt": 1, "hidden": 1, ".png beside an image": 1, ".json": 1}
    manifest = finished(folder, out, weights)
    assert manifest.left_out == counts
    assert [each["key"] for each in samples(out)] == ["0", "a", "b", "c.jpg?x=1"]
    said = cache("make", folder, "--out", out, *options(weights))  # finished: needs no model
    assert "4 latents in 2 shards" in said
    assert "left out: 1 .cr2, 1 .json, 1 .png beside an image, 1 .txt, 1 hidden" in said
    assert "problems: 1 unreadable .txt" in said
    assert "left out: 1 .cr2" in cache("stats", out)
    found = json.loads(cache("stats", out, "--json"))
    assert (found["left_out"], found["skipped"]) == (counts, 0)
    assert found["problems"] == {"unreadable .txt": 1}


def test_caches_of_earlier_code_are_read_and_verified(
    tmp_path: Path, photo: bytes, weights: Path
) -> None:
    """Their manifests lack the counts, and they lack images that are found now."""
    folder, out = tmp_path / "photos", tmp_path / "out"
    write_photos(folder, 3, size=24)
    finished(folder, out, weights)
    (folder / "new").write_bytes(photo)  # has no ending
    with pytest.raises(CacheError, match="the images are not those that were cached"):
        check_sample(LatentSource(out), 3, str(weights), None, fake_encoder)
    document = manifest_of(out)
    document["spec"]["encoding"] = 1
    del document["left_out"], document["spec"]["prefix_keys"]
    for shard in document["shards"]:
        del shard["problems"]
    (out / "manifest.json").write_text(json.dumps(document))
    source = LatentSource(out)
    check_shards(source, lambda count: None)
    assert check_sample(source, 3, str(weights), None, fake_encoder) < 1e-2
    (folder / "000.png").unlink()
    with pytest.raises(CacheError, match="000: the image is not there; say where"):
        check_sample(source, 3, str(weights), None, fake_encoder)


def test_no_member_leads_out_of_its_folder(tmp_path: Path, photo: bytes, weights: Path) -> None:
    """Names of members come from the keys, and those from a tar that anyone has made."""
    names = ("../../x.png", "/etc/y.png", "a/../../z.png", "a%2e/w.png")
    tar = write_tar(tmp_path / "a.tar", dict.fromkeys(names, photo))
    out = tmp_path / "out"
    finished(tar, out, weights, format="webdataset")
    assert [each["key"] for each in samples(out)] == [name[:-4] for name in names]
    with tarfile.open(out / "00000.tar") as written:
        members = written.getnames()
        written.extractall(tmp_path / "unpacked", filter="data")
    assert not any(name.startswith("/") or ".." in name.split("/") for name in members)
    assert len({*members}) == 8
    check_shards(LatentSource(out), lambda count: None)


def test_names_that_are_not_utf_8(tmp_path: Path, photo: bytes, weights: Path) -> None:
    """A manifest cannot hold them, so they are escaped in keys, labels and sources."""
    folder, out = tmp_path / "photos", tmp_path / "out"
    (folder / "caf\udce9").mkdir(parents=True)
    (folder / "caf\udce9" / "a\udcff.png").write_bytes(photo)
    (folder / "caf\udce9" / "b\udcff.png").write_bytes(b"?")
    write_tar(folder / "c\udcff.tar", {"d\udcff.png": photo})
    manifest = finished(folder, out, weights)
    assert manifest.classes == (r"caf\xe9",)
    assert [*manifest.skipped] == [r"caf\xe9/b\xff"]
    assert [each["key"] for each in samples(out)] == [r"d\xff", r"caf\xe9/a\xff"]
    assert check_sample(LatentSource(out), 2, str(weights), None, fake_encoder) < 1e-2

"""Tars are listed as tarfile lists them, or refused with the reason, in bounded time and memory."""

import gzip
import io
import os
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from aura_jax.errors import ImageError
from aura_jax.images.readers import find_images, list_images
from aura_jax.images.tars import Member, members, opened
from tests.cache_folder import write_tar
from tests.photo_folder import write_photos

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


def listed(path: Path) -> list[Member]:
    with opened(path) as tar:
        return [*members(path, tar)]


def header(name: str, kind: bytes = b"0", size: int = 0) -> bytes:
    member = tarfile.TarInfo(name)
    member.type, member.size = kind, size
    return member.tobuf(tarfile.GNU_FORMAT)


def names_in(path: Path) -> tuple[list[str | None], Counter[str]]:
    left_out: Counter[str] = Counter()
    return [image.member for image in list_images([path], left_out)], left_out


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_is_read_as_tarfile_reads_it(tmp_path: Path, kind: str) -> None:
    rng = np.random.default_rng(0)
    names = ["a.jpg", "d/" * 40 + "b.jpg", "./c.jpg", "e/" * 60 + "f" * 90]
    names += [] if kind == "ustar" else ["写真/" * 30 + "😀.png", "n" * 300]
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=FORMATS[kind]) as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = int(rng.integers(0, 2000))
            member.mtime = 0.5 if kind == "pax" else 0
            tar.addfile(member, io.BytesIO(rng.bytes(member.size)))
        for special, type_ in {"dir": b"5", "pipe": b"6", "link": b"2", "device": b"3"}.items():
            member = tarfile.TarInfo(special)
            member.type, member.linkname = type_, "l" * (90 if kind == "ustar" else 150)
            tar.addfile(member)
    with tarfile.open(path) as tar:
        expected = [(each.name, each.offset_data, each.size) for each in tar]
    found = listed(path)
    assert [(name.rstrip("/"), offset, size) for name, _, offset, size in found] == expected
    assert [kind for _, kind, _, _ in found][-4:] == ["folder", "special", "link", "special"]


def test_metadata_of_all_members_and_large_numbers(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    common = {"comment": "of git archive"}
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT, pax_headers=common) as tar:
        member = tarfile.TarInfo("a.png")
        member.size = 3
        tar.addfile(member, io.BytesIO(b"abc"))
    assert [(name, size) for name, _, _, size in listed(path)] == [("a.png", 3)]
    path.write_bytes(header("huge.png", size=2**40) + bytes(1024))
    with pytest.raises(ImageError, match=r"truncated or corrupt: huge\.png is longer than the"):
        listed(path)


def test_what_is_hidden_in_folders_is_hidden_in_tars(tmp_path: Path) -> None:
    hidden = ("a/._0.jpg", "__MACOSX/a/0.jpg", ".ipynb_checkpoints/0.jpg", "a/.thumbs/b/0.jpg")
    names = ("./a/0.jpg", *hidden, "a/@eaDir/0.jpg/SYNOPHOTO.jpg", "../b.jpg")
    write_tar(tmp_path / "a.tar", dict.fromkeys(names, b"?"))
    assert names_in(tmp_path / "a.tar") == (["./a/0.jpg", "../b.jpg"], {"hidden": 5})


def test_files_beside_an_image_are_no_images(tmp_path: Path) -> None:
    """WebDataset's key ends at the first dot: a mask has the key of its image."""
    photo = (write_photos(tmp_path / "p", 1) / "000.png").read_bytes()
    names = ("0.jpg", "0.mask.png", "0.h5", "1.seg.png", "1.png", "2.v2.png", "3", "4.x", "5.txt")
    write_tar(tmp_path / "a.tar", {**dict.fromkeys(names, photo), "4.x": b"text"})
    found, left_out = names_in(tmp_path / "a.tar")
    assert found == ["0.jpg", "1.png", "2.v2.png", "3"]
    assert left_out == {".png beside an image": 2, ".h5": 1, ".x": 1, ".txt": 1}


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tgz", "a.TAR.BZ2", "a.txz", "a.tar.zst"])
def test_compressed_tars_are_refused(tmp_path: Path, name: str) -> None:
    write_photos(tmp_path / "photos", 1)
    whole = write_tar(tmp_path / "whole.tar", {"0.png": b"?"})
    (tmp_path / "photos" / name).write_bytes(gzip.compress(whole.read_bytes()))
    for place in (tmp_path / "photos", tmp_path / "photos" / name):
        with pytest.raises(ImageError, match=rf"{name}: compressed: unpack it with \w+ \(\w+ -d\)"):
            find_images([place])


def test_data_after_the_end(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", {"0.png": b"?"})
    once = path.read_bytes()
    path.write_bytes(once + bytes(2**19))  # the padding of a tape
    assert len(find_images([path])) == 1
    path.write_bytes(once * 2)
    with pytest.raises(ImageError, match=r"data follows the end of the archive at byte 1024"):
        find_images([path])
    with path.open("wb") as file:
        file.truncate(2**33)  # 8 GiB of nothing
    with pytest.raises(ImageError, match="data follows the end"):
        find_images([path])


def test_damaged_tars(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    record = b"30 GNU.sparse.major=1\n"
    for message, data in {
        "a.tar: not a tar that can be read": b"no tar" * 200,
        r"truncated .* 0\.png is longer than the file at byte 512": header("0.png", size=600),
        "no end-of-archive marker at byte 512": header("0.png"),
        r"0\.png: a sparse member; pack the tar again": header("0.png", b"S"),
        "sparse member": header("x", b"x", 22) + b"22 GNU.sparse.major=1\n".ljust(512, b"\0")
        + header("0.png") + bytes(1024),
        "a damaged record of metadata": header("x", b"x", 22) + record.ljust(512, b"\0"),
        "1,073,741,824 bytes of metadata": header("x", b"L", 2**30),
        r"a\\nb\\x1b\.png: a link; pack the image": header("a\nb\x1b.png", b"1") + bytes(1024),
    }.items():  # fmt: skip
        path.write_bytes(data)
        with pytest.raises(ImageError, match=message) as error:
            find_images([path])
        assert "\n" not in str(error.value)


def test_a_pipe_named_as_a_tar_is_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.tar")
    with pytest.raises(ImageError, match=r"a\.tar: not a regular file"):
        find_images([tmp_path / "a.tar"])

"""Folders: every image is found, whatever its name is, and every other file is counted."""

import os
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path

import pytest

from aura_jax.errors import ImageError
from aura_jax.images import left_out as counting
from aura_jax.images.left_out import bounded, summary, without_ending
from aura_jax.images.readers import find_images, list_images
from tests.photo_folder import write_photos

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"


@pytest.fixture
def photo(tmp_path: Path) -> bytes:
    return (write_photos(tmp_path / "one", 1) / "000.png").read_bytes()


def found_in(folder: Path) -> tuple[list[str], Counter[str]]:
    left_out: Counter[str] = Counter()
    paths = [image.path for image in list_images([folder], left_out)]
    return [path.relative_to(folder).as_posix() for path in paths], left_out


def written(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def test_the_content_tells_if_the_name_does_not(tmp_path: Path, photo: bytes) -> None:
    images = ["IMG_1", "IMG_2.jpg_large", "IMG_3.jpg?width=640", "IMG_4.tif,v", "IMG_5.PNG"]
    others = {"a.jxl": b"\xff\x0a", "b.CR2": b"II*\0....CR", "c.nef": b"II*\0", "notes": b"P1 is"}
    others |= {"d.txt": photo, "e.jpg?x": b"text", "f.h5": photo, "g.pdf": b"%PDF", "h.mpg": b""}
    folder = written(tmp_path / "f", {**dict.fromkeys(images, photo), **others})
    (folder / "IMG_4.tif,v").write_bytes(b"II*\0" + photo)
    found, left_out = found_in(folder)
    assert found == images
    endings = dict.fromkeys((".jxl", ".cr2", ".nef", ".txt", ".h5", ".pdf", ".mpg"), 1)
    assert left_out == endings | {"without an ending": 1, "with another ending": 1}


def test_heic_names_the_extra(
    tmp_path: Path, photo: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counting, "can_open", lambda name: name != "HEIC")
    monkeypatch.setattr(counting, "endings", lambda: {".png"})
    folder = written(tmp_path / "f", {"a.HEIC": HEIC, "b.heic": HEIC, "c.png": photo, "d": HEIC})
    found, left_out = found_in(folder)
    assert found == ["c.png"]
    assert summary(left_out) == (
        "left out: 2 .heic (to read them: pip install 'aura-jax[heif]'), 1 without an ending"
    )


def test_summaries_are_short() -> None:
    many = Counter({f".k{i:03}": 1000 - i for i in range(300)})
    assert len(bounded(many)) == 101
    assert sum(bounded(many).values()) == many.total()
    assert summary(many).startswith("left out: 1,000 .k000, 999 .k001,")
    assert summary(many).endswith(" of other kinds")
    assert summary(many).count(",") < 30


def test_names_of_images_without_their_ending() -> None:
    for name, expected in {
        "a.b.PNG": "a.b",
        "a.heic": "a",  # whether or not it can be opened here
        "a.jpg?width=640": "a.jpg?width=640",
        "Mr. Smith": "Mr. Smith",
        ".png": ".png",
        "a.": "a.",
    }.items():
        assert without_ending(name) == expected


def test_links_to_folders_are_followed_once(tmp_path: Path, photo: bytes) -> None:
    """A linked class does not vanish, and nothing loops or multiplies."""
    folder = written(tmp_path / "f", {"cat/a.png": photo, "x/b.png": photo})
    for link, target in {"kitten": "cat", "cat/up": "..", "x/self": "self"}.items():
        (folder / link).symlink_to(target)
    found, left_out = found_in(folder)
    assert found == ["cat/a.png", "kitten/a.png", "x/b.png"]
    assert left_out == {"links to folders that were listed already": 2, "without an ending": 1}
    for i in range(30):  # 2**30 paths, if every link were always followed
        (tmp_path / "many" / str(i)).mkdir(parents=True)
        for link in "ab" if i < 29 else "":
            (tmp_path / "many" / str(i) / link).symlink_to(f"../{i + 1}")
    written(tmp_path / "many", {"29/c.png": photo})
    assert len(find_images([tmp_path / "many"])) < 100


def test_pipes_devices_and_sockets_are_never_opened(
    tmp_path: Path, photo: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = written(
        tmp_path / "f", {"a.png": photo, "dir.png/b.png": photo, "dir.tar/c.png": photo}
    )
    for name in ("p.png", "p.tar", "p"):
        os.mkfifo(folder / name)
    (folder / "null.png").symlink_to("/dev/zero")
    (folder / "pipe.png").symlink_to("p.png")
    monkeypatch.chdir(folder)  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("s.png")
        found, left_out = found_in(folder)
    assert found == ["a.png", "dir.png/b.png", "dir.tar/c.png"]
    assert left_out == {"pipes, devices or sockets": 6}


@contextmanager
def nested(place: Path, name: str, depth: int) -> Iterator[None]:
    """Make folders in folders, and remove them: pytest's own clean-up fails for so many."""
    place.mkdir()
    with chdir(place):
        for _ in range(depth):
            Path(name).mkdir()
            os.chdir(name)
        try:
            Path("a.png").write_bytes(b"?")
            yield
        finally:
            Path("a.png").unlink()
            for _ in range(depth):
                os.chdir("..")
                Path(name).rmdir()


def test_a_thousand_folders_deep(tmp_path: Path) -> None:
    with nested(tmp_path / "f", "d", 1000):
        (image,) = find_images([tmp_path / "f"])
        assert image.read() == b"?"


def test_paths_that_are_too_long(tmp_path: Path) -> None:
    message = r"characters\): the path is too long to open; move the folder up"
    with nested(tmp_path / "f", "d" * 250, 20), pytest.raises(ImageError, match=message) as error:
        find_images([tmp_path / "f"])
    assert len(str(error.value)) < 300


def test_an_empty_search_says_what_was_there(tmp_path: Path) -> None:
    written(tmp_path / "f", {"a.txt": b"", ".b.png": b""})
    with pytest.raises(ImageError, match=r"no images found.*; left out: 1 \.txt, 1 hidden$"):
        find_images([tmp_path / "f"])

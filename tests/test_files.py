"""Files are written whole or not at all."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from aura_jax import AuraError
from aura_jax.files import check_folder, check_free, remove_leftovers, replacing
from aura_jax.images.readers import find_files


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_a_failed_write_leaves_nothing(tmp_path: Path, error: type[BaseException]):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def write() -> None:
        with replacing(path) as temporary:
            temporary.write_bytes(b"half")
            raise error

    with pytest.raises(error):
        write()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_visible_files_are_found_without_loops(tmp_path: Path):
    for name in ("a.png", ".b.png", ".thumbs/c.png", "d/e.png", "d/f/g.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_bytes(b"")
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    outside.mkdir()
    (outside / "h.png").write_bytes(b"")
    for link, target in {"d/loop": ".", "z": "d", "far": outside, "lost.png": "nowhere"}.items():
        (tmp_path / link).symlink_to(target)
    (tmp_path / "d/up").symlink_to("..")
    found = [path.relative_to(tmp_path).as_posix() for path in find_files(tmp_path)]
    files = ["a.png", "d/e.png", "d/f/g.png", "far/h.png", "lost.png", "z/e.png", "z/f/g.png"]
    assert found == files


def test_the_file_is_synced_and_readable_as_others_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    synced = []
    monkeypatch.setattr("os.fsync", synced.append)
    (tmp_path / "plain").write_bytes(b"")
    with replacing(tmp_path / "file") as temporary:
        temporary.write_bytes(b"new")
        assert not (tmp_path / "file").exists()
    assert len(synced) == 1
    with replacing(tmp_path / "tensors") as temporary:
        save_file({"a": np.zeros(1)}, temporary)  # in a new file, which only its owner may read
    modes = {path.stat().st_mode for path in tmp_path.iterdir()}
    assert len(modes) == 1


def test_the_umask_is_applied_and_never_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Setting it is the only way to read it, and changes it for all threads for a moment."""
    umask = os.umask
    before = umask(0o027)
    monkeypatch.setattr("os.umask", lambda _: pytest.fail("the umask was set"))

    def write(i: int) -> int:
        with replacing(tmp_path / str(i)):
            pass
        return (tmp_path / str(i)).stat().st_mode & 0o777

    try:
        with ThreadPoolExecutor(4) as pool:
            assert {*pool.map(write, range(40))} == {0o640}
        assert umask(0o027) == 0o027
    finally:
        umask(before)


def test_temporaries_of_long_names_are_short_and_swept(tmp_path: Path):
    for path in (tmp_path / ("写" * 85), tmp_path / "short", tmp_path / "short.2"):
        with replacing(path) as temporary:
            assert temporary.name.startswith(".")
            assert len(os.fsencode(temporary.name)) < 140
            for killed in (temporary.with_suffix(".00000000"), temporary):
                killed.write_bytes(b"")
        assert len([*tmp_path.iterdir()]) == 2
        remove_leftovers([path])
        assert [*tmp_path.iterdir()] == [path]
        path.unlink()


def test_a_replaced_file_keeps_its_mode(tmp_path: Path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    for mode in (0o600, 0o664):
        path.chmod(mode)
        with replacing(path) as temporary:
            temporary.write_bytes(b"new")
        assert path.stat().st_mode & 0o777 == mode


def test_paths_that_cannot_be_written(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_bytes(b"")
    for path, message in (
        (tmp_path, "is a folder"),
        (tmp_path / "no" / "file", "folder .* does not exist"),
        (tmp_path / "pipe", "is not a regular file"),
    ):
        with pytest.raises(AuraError, match=message):
            check_free(path, overwrite=True)
    with pytest.raises(AuraError, match="exists already"):
        check_free(tmp_path / "file", overwrite=False)
    check_free(tmp_path / "file", overwrite=True)
    with pytest.raises(AuraError, match="is a file; give a folder"):
        check_folder(tmp_path / "file")
    with pytest.raises(AuraError, match="file: is a file; give a folder"):
        check_folder(tmp_path / "file" / "new")
    check_folder(tmp_path / "new" / "in new")
    with pytest.raises(AuraError, match="cannot be written"):
        check_free(tmp_path / ("n" * 256), overwrite=False)
    check_free(tmp_path / ("n" * 255), overwrite=False)
    (tmp_path / "file").unlink()
    (tmp_path / "pipe").unlink()
    assert [*tmp_path.iterdir()] == []


def test_pipes_and_devices_are_not_replaced(tmp_path: Path):
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    for path in (pipe, link):
        with pytest.raises(AuraError, match="is not a regular file"), replacing(path) as temporary:
            temporary.write_bytes(b"new")
        assert path.is_fifo()
    with pytest.raises(AuraError, match="is a folder"), replacing(tmp_path) as temporary:
        temporary.write_bytes(b"new")
    assert sorted(tmp_path.iterdir()) == [link, pipe]

"""Batches of crops: their order, their images, and how the images they cannot use are skipped."""

import multiprocessing
import os
import tarfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NoReturn

import grain
import numpy as np
import pytest
from PIL import Image

from aura_jax.errors import ImageError, TrainingError
from aura_jax.images.readers import ImageFile, find_images
from aura_jax.training.config import Crops
from aura_jax.training.data import Batch, batches, fetch
from aura_jax.training.decoders import _end_with_parent
from aura_jax.training.skipped import Skipped
from tests.photo_folder import write_photos

CROPS = (Crops(16, 4), Crops(32, 2))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_photos(tmp_path / "photos", 12)


def stream(folder: Path, skipped: Path, *, seed: int = 0, crops: tuple[Crops, ...] = CROPS, **kw):
    photos = find_images([folder])
    return batches(photos, crops, seed=seed, skipped=Skipped(skipped, len(photos)), **kw)


def equal(a: Batch, b: Batch) -> bool:
    return a.names == b.names and np.array_equal(a.images, b.images)


def test_crops_take_turns_and_know_their_files(folder: Path, tmp_path: Path) -> None:
    data = stream(folder, tmp_path / "skipped")
    for size, count in (*CROPS, *CROPS):
        batch = next(data)
        assert batch.images.shape == (count, size, size, 3)
        assert batch.images.dtype == np.uint8
        assert all(Path(name).parent == folder for name in batch.names)


def test_an_epoch_sees_every_image(folder: Path, tmp_path: Path) -> None:
    data = stream(folder, tmp_path / "skipped", crops=(Crops(16, 4),))
    seen = [name for _ in range(3) for name in next(data).names]
    assert sorted(seen) == sorted(str(path) for path in folder.iterdir())


def test_same_seed_same_batches(folder: Path, tmp_path: Path) -> None:
    a, b, other = (stream(folder, tmp_path / "skipped", seed=seed) for seed in (0, 0, 1))
    pairs = [(next(a), next(b), next(other)) for _ in range(4)]
    assert all(equal(x, y) for x, y, _ in pairs)
    assert not any(equal(x, z) for x, _, z in pairs)


def decode_for_ever(pipe: Connection) -> None:
    _end_with_parent(0, 1)
    pipe.send(os.getpid())
    time.sleep(300)


def be_killed(pipe: Connection) -> None:
    multiprocessing.get_context("spawn").Process(target=decode_for_ever, args=(pipe,)).start()
    time.sleep(300)


def test_decoding_processes_end_with_a_killed_run() -> None:
    ours, theirs = multiprocessing.Pipe(duplex=False)
    run = multiprocessing.get_context("spawn").Process(target=be_killed, args=(theirs,))
    run.start()
    theirs.close()
    assert ours.recv() > 0
    run.kill()
    with pytest.raises(EOFError):  # the pipe closes once no process has its other end
        ours.recv() if ours.poll(60) else None


def test_state_resumes_exactly(folder: Path, tmp_path: Path) -> None:
    data = stream(folder, tmp_path / "skipped")
    for _ in range(5):
        next(data)
    state = data.get_state()
    expected = [next(data) for _ in range(5)]
    resumed = stream(folder, tmp_path / "skipped")
    resumed.set_state(state)
    assert all(equal(next(resumed), batch) for batch in expected)


def test_processes_share_the_images(folder: Path, tmp_path: Path) -> None:
    parts = [
        stream(folder, tmp_path / "skipped", crops=(Crops(16, 4),), process=i, processes=2)
        for i in range(2)
    ]
    names = [{name for _ in range(6) for name in next(part).names} for part in parts]
    assert next(parts[0]).images.shape == (2, 16, 16, 3)
    assert not names[0] & names[1]
    assert len(names[0] | names[1]) == 12


def test_crops_come_from_the_image(tmp_path: Path) -> None:
    """An image whose colors tell their position: crops keep the ratio of its sides."""
    folder = tmp_path / "photos"
    folder.mkdir()
    ramp = np.arange(128, dtype=np.uint8)
    pixels = np.stack(np.broadcast_arrays(ramp[:, None], ramp[None], np.uint8(7)), axis=-1)
    Image.fromarray(pixels).save(folder / "ramp.png")
    data = stream(folder, tmp_path / "skipped", crops=(Crops(32, 1),))
    sides = []
    for _ in range(20):
        crop = next(data).images[0].astype(int)
        height, width = np.ptp(crop[..., 0]), np.ptp(crop[..., 1])
        assert abs(height - width) <= 2
        assert (abs(crop[..., 2] - 7) <= 1).all()
        sides.append(height)
    assert min(sides) >= 29
    assert 50 < max(sides) <= 64


def test_tars_and_folders_below(folder: Path, tmp_path: Path) -> None:
    (folder / "below").mkdir()
    write_photos(folder / "below", 2)
    (folder / "notes.txt").write_text("no image")
    (folder / ".hidden.png").write_bytes(b"")
    tar = tmp_path / "photos" / "shard.tar"
    with tarfile.open(tar, "w") as file:
        for path in sorted((folder / "below").iterdir()):
            file.add(path, f"a/{path.name}")
        file.add(folder / "notes.txt", "a/000.txt")
    photos = find_images([folder])
    assert len(photos) == 12 + 2 + 2
    members = [photo for photo in photos if photo.member]
    assert [str(photo) for photo in members] == [f"{tar}:a/000.png", f"{tar}:a/001.png"]
    for photo in members:
        twin = ImageFile(folder / "below" / Path(str(photo.member)).name)
        assert photo.read() == twin.read()
    assert find_images([tar]) == members


def test_decoding_processes_change_nothing(folder: Path, tmp_path: Path) -> None:
    """If one dies, the text of Grain's error is recognized and a clear error raised."""
    plain = stream(folder, tmp_path / "skipped")
    parallel = stream(folder, tmp_path / "skipped", workers=1)
    assert all(equal(next(plain), next(parallel)) for _ in range(4))
    state = parallel.get_state()
    expected = next(parallel)
    parallel.set_state(state)
    assert equal(next(parallel), expected)
    (worker,) = multiprocessing.active_children()
    worker.kill()
    with pytest.raises(TrainingError, match="a process that decodes images was killed"):
        _use_up(parallel, Skipped(tmp_path / "skipped", 12))


def _use_up(data: grain.DatasetIterator[Batch], skipped: Skipped) -> NoReturn:
    """Take what a dead process left in its queue, and more."""
    while True:
        fetch(data, skipped)


def test_broken_and_small_images_are_skipped_and_named(folder: Path, tmp_path: Path) -> None:
    write_photos(folder, 30)
    (folder / "broken.png").write_bytes((folder / "000.png").read_bytes()[:60])
    Image.new("RGB", (8, 90)).save(folder / "small.png")
    skipped = Skipped(tmp_path / "skipped", 32)
    data = batches(find_images([folder]), (Crops(16, 4),), seed=0, skipped=skipped)
    names = {name for _ in range(20) for name in next(data).names}
    assert len(names) == 30
    reasons = skipped.read()
    assert reasons.keys() == {str(folder / "broken.png"), str(folder / "small.png")}
    assert reasons[str(folder / "small.png")] == "8 x 90, smaller than the crop of 16"
    assert "truncated" in reasons[str(folder / "broken.png")]
    with skipped.path.open("a") as file:
        file.write('["half a line, as a kill')
    assert skipped.read() == reasons


@pytest.mark.parametrize("workers", [0, 1])
def test_too_many_skipped_is_an_error(folder: Path, tmp_path: Path, workers: int) -> None:
    data = stream(folder, tmp_path / "skipped", crops=(Crops(64, 1),), workers=workers)
    with pytest.raises(ImageError, match=r"images? skipped.*\(a tenth of 12 images\)") as e:
        fetch(data, Skipped(tmp_path / "skipped", 12))
    assert "48 x 48, smaller than the crop of 64" in str(e.value)


def test_fewer_images_than_a_batch(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="12 images in all, fewer than a batch of 13"):
        stream(folder, tmp_path / "skipped", crops=(Crops(16, 13),))


def test_no_images(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no such file or folder"):
        find_images([tmp_path / "missing"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageError, match="no images found"):
        find_images([tmp_path / "empty"])
    (tmp_path / "bad.tar").write_bytes(b"this is no tar" * 99)
    with pytest.raises(ImageError, match=r"bad\.tar: not a tar that can be read"):
        find_images([tmp_path / "bad.tar"])

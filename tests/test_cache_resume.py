"""A cache that was killed, shared by jobs or damaged ends up the same in every byte."""

import contextlib
import fcntl
import json
import os
import pickle
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aura_jax import AuraError
from aura_jax.errors import CacheError
from aura_jax.latents import LatentSource, json_file, shard_file
from aura_jax.latents.shard_io import checksum
from tests.cache_folder import (
    cache,
    contents,
    encoded,
    finished,
    made,
    make,
    manifest_of,
    options,
    photos,
    weights,
)
from tests.conftest import ROOT
from tests.photo_folder import write_photos

__all__ = ["encoded", "made", "photos", "weights"]  # fixtures

SLOW = """
import sys, time
from aura_jax.latents import shard_file
quantize = shard_file.quantize
shard_file.quantize = lambda *args: (time.sleep(0.05), quantize(*args))[1]
"""
BY_FAKE = """
from pathlib import Path
from tests.cache_folder import make
make(*map(Path, sys.argv[1:4]))
"""
BY_COMMAND = """
from aura_jax.cli.start import main
main()
"""


@pytest.fixture
def out(made: Path, tmp_path: Path) -> Path:
    """A new folder beside `made`, so that both have the same relative paths."""
    return made.parent / tmp_path.name


def in_process(code: str, *words: object) -> subprocess.Popen[str]:
    """A process in which each latent takes a while."""
    return subprocess.Popen(
        [sys.executable, "-c", SLOW + code, *map(str, words)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
        stderr=subprocess.PIPE,
    )


def wait_for(event: Callable[[], object], process: subprocess.Popen[str]) -> None:
    while not event():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.005)


def test_killed_within_a_shard_it_resumes_and_ends_the_same(
    out: Path, made: Path, photos: Path, weights: Path
) -> None:
    process = in_process(BY_FAKE, photos, out, weights)
    wait_for(lambda: [*out.glob(".00001.arrayrecord.*")], process)
    before = (out / "00000.arrayrecord").stat()
    process.kill()
    process.communicate()
    assert not (out / "00001.arrayrecord").exists()
    with pytest.raises(CacheError, match="not a finished cache"):
        LatentSource(out)
    make(photos, out, weights)
    assert contents(out) == contents(made)
    assert (out / "00000.arrayrecord").stat().st_mtime_ns == before.st_mtime_ns  # not done again


def test_killed_between_any_two_steps(
    out: Path, made: Path, photos: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every write of the folder is whole or not there: the work ends after each of them once."""

    class Killed(BaseException):
        pass

    whole = json_file.replacing
    for last in range(9):
        writes = iter(range(last))

        def replacing(path: Path, writes=writes):
            if next(writes, None) is None:
                raise Killed
            return whole(path)

        for module in (shard_file, json_file):
            monkeypatch.setattr(module, "replacing", replacing)
        with contextlib.suppress(Killed):
            make(photos, out, weights)
        monkeypatch.undo()
        assert (out / "manifest.json").exists() == (last == 8)  # so no write was missed
        make(photos, out, weights)
        assert contents(out) == contents(made), last
        shutil.rmtree(out)


def test_interrupted_it_says_how_to_resume(encoded: Path, photos: Path, weights: Path) -> None:
    """Ctrl-C in the command."""
    out = encoded.parent / "interrupted"
    words = ("cache", "make", photos, "--out", out, *options(weights))
    process = in_process(BY_COMMAND, *words)
    wait_for(lambda: [*out.glob(".00001.arrayrecord.*")], process)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert said.endswith("interrupted; the same command resumes after the last whole shard\n")
    assert "Traceback" not in said
    assert process.returncode == 130
    assert not [*out.glob(".0*")]  # nothing half-written
    cache(*words[1:])
    assert contents(out) == contents(encoded)


def test_several_jobs_make_the_same(out: Path, made: Path, photos: Path, weights: Path) -> None:
    assert make(photos, out, weights, job=(1, 2)) is None
    assert not (out / "manifest.json").exists()
    said = cache("make", photos, "--out", out, *options(weights), "--job", "1/2")
    assert f"{out}: job 1/2 is done; the cache is complete when all 2 jobs are done" in said
    assert len(finished(photos, out, weights, job=(0, 2))) == 11
    assert contents(out) == contents(made)


def test_two_writers_at_once(out: Path, photos: Path, weights: Path) -> None:
    out.mkdir()
    with (out / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for options in ({}, {"job": (0, 2)}):
            with pytest.raises(CacheError, match="another process is writing this cache"):
                make(photos, out, weights, **options)
        fcntl.flock(lock, fcntl.LOCK_SH)  # as another job has it
        with (out / ".lock.0-2").open("w") as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            for job in ((0, 2), (1, 3)):  # whose sweeping would disturb the other
                with pytest.raises(CacheError, match="another process"):
                    make(photos, out, weights, job=job)
            assert make(photos, out, weights, job=(1, 2)) is None
    assert len(finished(photos, out, weights)) == 11


def test_without_file_locks(
    out: Path, photos: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)  # as on Windows
    with pytest.raises(AuraError, match="can only be written on Linux or macOS"):
        make(photos, out, weights)


OTHERS: dict[str, Any] = {
    "height": {"size": 8},
    "storage_dtype": {"storage_dtype": "int8"},
    "compute_dtype": {"compute_dtype": "bfloat16"},
    "format": {"format": "webdataset"},
}


def test_another_spec_is_refused_with_both(
    out: Path, photos: Path, weights: Path, made: Path
) -> None:
    make(photos, out, weights, job=(0, 2))
    before = contents(out)
    for name, option in OTHERS.items():
        for folder in (out, made):  # half made, and finished
            expected = rf"other images, weights or options; .*(.*\n)* *{name}: .* before, .* now"
            with pytest.raises(CacheError, match=expected):
                make(photos, folder, weights, **option)
    with pytest.raises(CacheError) as caught:
        make(photos, out, small(), size=16)
    assert all(checksum(each) in str(caught.value) for each in (weights, small()))
    assert contents(out) == before


def small() -> Path:
    """The checkpoint of the package."""
    return ROOT / "aura_jax" / "weights" / "small.safetensors"


def test_a_forgotten_per_shard_is_named_alone(photos: Path, weights: Path, made: Path) -> None:
    with pytest.raises(CacheError) as caught:
        make(photos, made, weights, per_shard=4096)
    assert str(caught.value).splitlines()[1:] == ["  per_shard: 4 before, 4096 now"]


def test_another_environment_resumes(out: Path, made: Path, photos: Path, weights: Path) -> None:
    """Versions, devices and the size of batches are recorded as they were, and not compared."""
    make(photos, out, weights, job=(0, 2))
    draft = out / ".progress" / "manifest.json"
    begun = json.loads(draft.read_text())
    assert begun["environment"]["batch"] == 2
    begun["environment"] |= {"aura_jax": "0.1.7", "jax": "0.99", "platform": "gpu"}
    draft.write_text(json.dumps(begun))
    assert len(finished(photos, out, weights, batch=3)) == 11
    assert manifest_of(out)["environment"] == begun["environment"]
    make(photos, out, weights)  # the finished one is taken for the same too
    for i in range(11):
        np.testing.assert_array_equal(
            LatentSource(out)[i]["latent"], LatentSource(made)[i]["latent"]
        )


def test_images_that_changed_are_refused(tmp_path: Path, photos: Path, weights: Path) -> None:
    copy = tmp_path / "photos"
    shutil.copytree(photos, copy)
    make(copy, tmp_path / "out", weights, job=(0, 2))
    (copy / "cats" / "000.png").rename(copy / "cats" / "new.png")
    with pytest.raises(CacheError, match="\n  images: other names than before\n"):
        make(copy, tmp_path / "out", weights)
    (copy / "cats" / "new.png").rename(copy / "cats" / "000.png")
    write_photos(copy / "cats", 1, size=25)
    with pytest.raises(CacheError, match=r"as before\n  images: files of other sizes in bytes.*$"):
        make(copy, tmp_path / "out", weights)
    write_photos(copy / "birds", 1)
    with pytest.raises(CacheError, match=r"before\n  images: 11 before, 12 now\n  images: other"):
        make(copy, tmp_path / "out", weights)


def test_a_lost_or_cut_shard_is_made_again(
    out: Path, made: Path, photos: Path, weights: Path
) -> None:
    shutil.copytree(made, out)
    (out / "00000.arrayrecord").unlink()
    os.truncate(out / "00002.arrayrecord", 1000)
    make(photos, out, weights)
    assert contents(out) == contents(made)


def test_a_damaged_note_names_itself(out: Path, photos: Path, weights: Path) -> None:
    make(photos, out, weights, job=(0, 2))
    (out / ".progress" / "00000.arrayrecord.json").write_text('{"file": 3}')
    with pytest.raises(CacheError, match=r"00000\.arrayrecord\.json: cannot be read \(.*file"):
        make(photos, out, weights)


@pytest.mark.parametrize("form", ["arrayrecord", "webdataset"])
def test_a_full_disk_stops_it_and_it_resumes(
    out: Path, made: Path, photos: Path, weights: Path, form: str
) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, limits[1]))
        with pytest.raises(AuraError, match=r"00000\.\w+: .*written"):
            make(photos, out, weights, format=form)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not [*out.glob("0*")]
    assert len(finished(photos, out, weights, format=form)) == 11


def test_labels_and_latents_stay_together(made: Path) -> None:
    """Reading out of order, and from a pickled copy in another process's way."""
    source = LatentSource(made)
    in_order = [source[i] for i in range(len(source))]
    copy = pickle.loads(pickle.dumps(source))
    for i in np.random.default_rng(0).permutation(len(source)):
        sample = copy[i]
        assert sample["key"] == in_order[i]["key"]
        np.testing.assert_array_equal(sample["latent"], in_order[i]["latent"])

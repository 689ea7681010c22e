"""A cache that was killed, shared out or damaged ends up the same in every byte."""

import contextlib
import fcntl
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest

from aura_jax.errors import CacheError
from aura_jax.latents import LatentSource
from aura_jax.latents import encode_shard as encode
from aura_jax.latents import workspace as folder
from tests.cache_folder import cache, contents, made, options, photos, weights
from tests.photo_folder import write_photos

__all__ = ["made", "photos", "weights"]  # fixtures

SLOW = """
import sys, time
from aura_jax.latents import encode_shard as encode
store = encode.stored
encode.stored = lambda *args: (time.sleep(0.05), store(*args))[1]
from aura_jax.cli.app import main
sys.argv[1:] = {words}
main()
"""


def in_process(*words: object) -> subprocess.Popen[str]:
    """The command in a process of its own, where each latent takes a while."""
    code = SLOW.format(words=["cache", *map(str, words)])
    return subprocess.Popen([sys.executable, "-c", code], text=True, stderr=subprocess.PIPE)


def wait_for(event: Callable[[], object], process: subprocess.Popen[str]) -> None:
    while not event():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.005)


def test_killed_anywhere_it_goes_on_and_ends_the_same(
    tmp_path: Path, made: Path, photos: Path, weights: Path
) -> None:
    out = tmp_path / "latents"
    process = in_process(photos, out, *options(weights))
    wait_for(lambda: [*out.glob(".00000.arrayrecord.*")], process)
    process.kill()  # within the first shard
    process.communicate()
    assert not (out / "00000.arrayrecord").exists()
    process = in_process(photos, out, *options(weights))
    wait_for(lambda: [*out.glob(".00001.arrayrecord.*")], process)
    before = (out / "00000.arrayrecord").stat()
    process.kill()  # within the second
    process.communicate()
    with pytest.raises(CacheError, match="no finished cache"):
        LatentSource(out)
    cache(photos, out, *options(weights))
    assert contents(out) == contents(made)
    assert (out / "00000.arrayrecord").stat().st_mtime_ns == before.st_mtime_ns  # not done again


def test_killed_between_any_two_steps(
    tmp_path: Path, made: Path, photos: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every write of the folder is whole or not there: the work ends after each of them once."""

    class Killed(BaseException):
        pass

    whole = folder.replacing
    for last in range(9):
        writes = iter(range(last))

        def replacing(path: Path, writes=writes):
            if next(writes, None) is None:
                raise Killed
            return whole(path)

        for module in (folder, encode, sys.modules["aura_jax.latents.manifest"]):
            monkeypatch.setattr(module, "replacing", replacing)
        out = tmp_path / str(last)
        with contextlib.suppress(Killed):
            cache(photos, out, *options(weights))
        monkeypatch.undo()
        assert (out / "manifest.json").exists() == (last == 8)  # so no write was missed
        cache(photos, out, *options(weights))
        assert contents(out) == contents(made), last


def test_interrupted_it_says_how_to_go_on(
    tmp_path: Path, made: Path, photos: Path, weights: Path
) -> None:
    out = tmp_path / "latents"
    process = in_process(photos, out, *options(weights))
    wait_for(lambda: [*out.glob(".00001.arrayrecord.*")], process)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert "the same command goes on" in said
    assert "Traceback" not in said
    assert process.returncode != 0
    assert not [*out.glob(".0*")]  # nothing half-written
    cache(photos, out, *options(weights))
    assert contents(out) == contents(made)


def test_shares_of_several_jobs_make_the_same(
    tmp_path: Path, made: Path, photos: Path, weights: Path
) -> None:
    out = tmp_path / "latents"
    said = cache(photos, out, *options(weights), "--shard", "1/2")
    assert "share 1/2 is done" in said
    assert "once all 2 are" in said
    assert not (out / "manifest.json").exists()
    said = cache(photos, out, *options(weights), "--shard", "0/2")
    assert "11 latents in 3 shards" in said
    assert contents(out) == contents(made)


def test_several_devices_share_the_work(
    tmp_path: Path, made: Path, photos: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jax, "local_devices", lambda: jax.devices() * 2)
    cache(photos, tmp_path / "latents", *options(weights))
    assert contents(tmp_path / "latents") == contents(made)


def test_two_writers_at_once(tmp_path: Path, photos: Path, weights: Path) -> None:
    out = tmp_path / "latents"
    out.mkdir()
    words = (photos, out, *options(weights))
    with (out / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(CacheError, match="another process is writing this cache"):
            cache(*words)
        with pytest.raises(CacheError, match="another process"):
            cache(*words, "--shard", "0/2")
        fcntl.flock(lock, fcntl.LOCK_SH)  # as the share of another job has it
        with (out / ".lock.0-2").open("w") as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            with pytest.raises(CacheError, match="another process"):
                cache(*words, "--shard", "0/2")
            with pytest.raises(CacheError, match="another process"):
                cache(*words, "--shard", "1/3")  # whose sweeping would disturb that one
            assert "share 1/2 is done" in cache(*words, "--shard", "1/2")
    assert "11 latents" in cache(*words)


@pytest.mark.parametrize("shard", ["2/2", "0/0", "x", "-1/2", "1"])
def test_a_share_that_does_not_exist(tmp_path: Path, photos: Path, shard: str) -> None:
    with pytest.raises(CacheError, match=r"expected I/N with 0 <= I < N"):
        cache(photos, tmp_path / "out", f"--shard={shard}")


def test_other_settings_are_refused_with_both(
    tmp_path: Path, photos: Path, weights: Path, made: Path
) -> None:
    out = tmp_path / "latents"
    cache(photos, out, *options(weights), "--shard", "0/2")
    before = contents(out)
    for other in (("--size", 8), ("--dtype", "int8"), ("--batch", 3), ("--per-shard", 5)):
        for folder_ in (out, made):  # half made, and finished
            with pytest.raises(CacheError, match=r"other weights or settings.*\n *there: .*\n *gi"):
                cache(photos, folder_, *options(weights), *other)
    with pytest.raises(CacheError) as caught:
        cache(photos, out, *options(weights), "--weights", "small")
    fingerprints = [encode.checksum(weights), encode.checksum(embedded())]
    assert all(fingerprint in str(caught.value) for fingerprint in fingerprints)
    assert contents(out) == before


def embedded() -> Path:
    """The checkpoint of the package."""
    return Path(encode.__file__).parent.parent / "weights" / "small.safetensors"


def test_pictures_that_changed_are_refused(tmp_path: Path, photos: Path, weights: Path) -> None:
    copy = tmp_path / "photos"
    subprocess.run(["cp", "-r", photos, copy], check=True)
    cache(copy, tmp_path / "out", *options(weights), "--shard", "0/2")
    (copy / "cats" / "000.png").rename(copy / "cats" / "new.png")
    with pytest.raises(CacheError, match='"keys"'):
        cache(copy, tmp_path / "out", *options(weights))
    (copy / "cats" / "new.png").rename(copy / "cats" / "000.png")
    write_photos(copy / "cats", 1, size=25)
    with pytest.raises(CacheError, match='"sizes"'):
        cache(copy, tmp_path / "out", *options(weights))


def test_a_lost_or_cut_shard_is_made_anew(
    tmp_path: Path, made: Path, photos: Path, weights: Path
) -> None:
    out = tmp_path / "latents"
    subprocess.run(["cp", "-r", made, out], check=True)
    (out / "00000.arrayrecord").unlink()
    os.truncate(out / "00002.arrayrecord", 1000)
    cache(photos, out, *options(weights))
    assert contents(out) == contents(made)


def test_a_full_disk_stops_it_and_it_goes_on(
    tmp_path: Path, made: Path, photos: Path, weights: Path
) -> None:
    out = tmp_path / "latents"
    code = f"""
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
from aura_jax.cli.app import main
sys.argv[1:] = {["cache", *map(str, (photos, out, *options(weights)))]}
main()
"""
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "00000.arrayrecord: " in result.stderr
    assert "written" in result.stderr
    assert "Traceback" not in result.stderr
    assert not [*out.glob("*.arrayrecord")]
    cache(photos, out, *options(weights))
    assert contents(out) == contents(made)


def test_labels_and_latents_stay_together(made: Path, photos: Path) -> None:
    """Reading out of order, and from a pickled copy in another process's way."""
    source = LatentSource(made)
    in_order = [source[i] for i in range(len(source))]
    copy = pickle.loads(pickle.dumps(source))
    for i in np.random.default_rng(0).permutation(len(source)):
        sample = copy[i]
        assert sample["key"] == in_order[i]["key"]
        np.testing.assert_array_equal(sample["latent"], in_order[i]["latent"])

"""The same cache from a Ray cluster, of which a worker is killed in the middle."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from aura_jax import ImageError
from aura_jax.latents.executors import RayExecutor, actor_places
from tests.cache_folder import (
    cache,
    contents,
    encoded,
    fake_encoder,
    make,
    options,
    photos,
    weights,
)

__all__ = ["encoded", "photos", "weights"]  # fixtures

# Ray leaves sockets and files to the collector.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """A local cluster of one node."""
    import ray  # late, since every worker of pytest imports every test

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def workers() -> set[int]:
    """The processes of the actors that encode: Ray writes what they do into their titles."""
    titles = {path.parent: path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline")}
    return {int(path.name) for path, title in titles.items() if title.startswith(b"ray::Worker")}


def kill_one_that_writes(out: Path, killed: list[int]) -> None:
    """Waits until the second shard is being written, then kills its worker."""
    while not [*out.glob(".00001.arrayrecord.*")]:
        if (out / "manifest.json").exists():
            return
        time.sleep(0.002)
    for pid in workers():
        os.kill(pid, signal.SIGKILL)
        killed.append(pid)


def test_a_killed_worker_costs_nothing_but_time(encoded: Path, photos: Path, weights: Path) -> None:
    """Uses the real model, through the command."""
    out, killed = encoded.parent / "by_ray", []
    killer = threading.Thread(target=kill_one_that_writes, args=(out, killed))
    killer.start()
    said = cache("make", photos, "--out", out, *options(weights), "--executor", "ray")
    killer.join()
    assert killed
    assert "11 latents in 3 shards" in said
    assert contents(out) == contents(encoded)


def test_places_of_actors() -> None:
    """An actor has one GPU, all TPU chips of a host, or a node."""
    head, tpu = {"CPU": 4.0}, {"CPU": 96.0, "TPU": 4.0}
    assert actor_places([head, head]) == ("cpu", [{"scheduling_strategy": "SPREAD"}] * 2)
    assert actor_places([head, tpu, tpu]) == ("tpu", [{"resources": {"TPU": 4.0}}] * 2)
    assert actor_places([head, {"GPU": 2.0}, {"GPU": 1.0}]) == ("gpu", [{"num_gpus": 1}] * 3)


def test_a_users_mistake_is_one_error(tmp_path: Path, photos: Path, weights: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes((photos / "cats" / "000.png").read_bytes())
    (tmp_path / "photos" / "b.png").write_bytes(b"?")
    with pytest.raises(ImageError, match=r"^1 image skipped, over .*(.*\n)+ *b: not an"):
        make(
            tmp_path / "photos",
            tmp_path / "out",
            weights,
            max_skipped=0,
            executor=lambda: RayExecutor(fake_encoder),
        )

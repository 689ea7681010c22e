"""aura-jax train in a process that is killed or interrupted."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import aura_jax
from aura_jax.signals import STOPS
from aura_jax.training.workdir import Workdir
from tests.cheap_training import replace_networks
from tests.conftest import ROOT
from tests.train_runs import checkpoints_of, command, metrics, out, paths, photos, train

__all__ = ["out", "paths", "photos"]  # fixtures

# Every step takes a while, so that signals come before the last. A shell may have started the tests
# with SIGINT ignored, which children would inherit.
COMMAND = """
import signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from aura_jax.training import loop
from tests.cheap_training import replace_networks
replace_networks()
fetch = loop.fetch
loop.fetch = lambda *args: (time.sleep(0.2), fetch(*args))[1]
from aura_jax.cli.app import main
main()
"""


@contextmanager
def in_process(paths: list[str], out: Path, *more: str) -> Iterator[subprocess.Popen[str]]:
    """The command in a group of processes of its own, as a terminal gives it."""
    words = [sys.executable, "-c", COMMAND, *command(paths, out, *more)]
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        words, cwd=ROOT, stdout=pipe, stderr=pipe, text=True, start_new_session=True
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(event: Callable[[], object], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 240
    while not event():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_killed_run_continues_as_if_it_had_not_been(
    paths: list[str], out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while it writes its second checkpoint, so that it must resume from the first."""
    replace_networks(monkeypatch.setattr)
    workdir, whole = Workdir(out), Workdir(tmp_path / "whole")
    at_the_end = ("--save-every", "100")  # saving takes longer than the steps
    assert train(paths, whole.path, *at_the_end).exit_code == 0
    with in_process(paths, out) as process:
        wait_for(lambda: checkpoints_of(workdir), process)
        wait_for(lambda: [*workdir.checkpoints.glob("*tmp*")], process)
    resumed = train(paths, out, *at_the_end)
    assert resumed.exit_code == 0
    assert re.search(r"training from step (8|16) to 20", resumed.output)
    assert metrics(workdir) == metrics(whole)
    assert workdir.model.read_bytes() == whole.model.read_bytes()


def test_interrupted_run_saves_and_exits_with_130(paths: list[str], out: Path) -> None:
    workdir = Workdir(out)
    with in_process(paths, out, "--save-every", "100", "--workers", "1") as process:
        wait_for(lambda: len(metrics(workdir)) >= 3, process)
        assert all(blocked(status) >= STOPS for status in decoding_processes(process.pid))
        os.killpg(process.pid, signal.SIGTERM)
        output, error = process.communicate(timeout=120)
    assert process.returncode == 130, error
    *losses, last = error.splitlines()
    assert last == "interrupted; saved, and the same command resumes the run"
    assert re.fullmatch(r"step 1 of 20: loss \d\.\d{4}, PSNR \d+\.\d\d dB", losses[0])
    assert "saved" not in output
    assert checkpoints_of(workdir) == [metrics(workdir)[-1]["step"]]
    assert aura_jax.load(workdir.model)


def decoding_processes(pid: int) -> list[str]:
    """The status of the processes that Grain has started, from whichever thread."""
    lists = [task.read_text() for task in Path(f"/proc/{pid}/task").glob("*/children")]
    children = [Path("/proc") / child for child in " ".join(lists).split()]
    found = [each for each in children if b"spawn_main" in (each / "cmdline").read_bytes()]
    assert found
    return [(each / "status").read_text() for each in found]


def blocked(status: str) -> set[signal.Signals]:
    """The blocked ones of these signals, which at any moment leave the process to the run."""
    (mask,) = re.findall(r"^SigBlk:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return {number for number in STOPS if int(mask, 16) >> (number - 1) & 1}

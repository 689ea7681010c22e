"""The same steps on one device, on eight, and in two processes; the command in two processes."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from convert.tolerances import SUM_ORDER
from tests.conftest import ROOT, TINY_CONFIG
from tests.photo_folder import write_photos

SCRIPT = [sys.executable, "-m", "tests.train_two_steps"]


def start(*arguments: str, devices: int = 1) -> subprocess.Popen[bytes]:
    flags = f"--xla_force_host_platform_device_count={devices}"
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    return subprocess.Popen([*SCRIPT, *arguments], cwd=ROOT, env=environment)


def finish(*processes: subprocess.Popen[bytes]) -> None:
    assert [process.wait(timeout=240) for process in processes] == [0] * len(processes)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("alone") / "weights.npz"
    finish(start(str(out)))
    return out


def check_equal(out: Path, alone: Path, devices: int) -> None:
    with np.load(out) as result, np.load(alone) as expected:
        assert (int(result["devices"]), int(expected["devices"])) == (devices, 1)
        np.testing.assert_allclose(result["losses"], expected["losses"], rtol=SUM_ORDER)
        names = [name for name in expected.files if name.startswith("gradient")]
        errors = [np.linalg.norm(result[name] - expected[name]) for name in names]
        sizes = [np.linalg.norm(expected[name]) for name in names]
        assert len(names) > 50
        assert max(errors) < SUM_ORDER * max(sizes)
        assert np.linalg.norm(errors) < SUM_ORDER * np.linalg.norm(sizes)


def test_eight_devices_do_what_one_does(alone: Path, tmp_path: Path) -> None:
    out = tmp_path / "weights.npz"
    finish(start(str(out), devices=8))
    check_equal(out, alone, 8)


def test_two_processes_do_what_one_does(alone: Path, tmp_path: Path) -> None:
    out, address = tmp_path / "weights.npz", free_address()
    finish(*(start(str(out), f"{address},2,{index}") for index in range(2)))
    check_equal(out, alone, 2)


def test_interruption_of_one_process_stops_both_and_both_go_on(tmp_path: Path) -> None:
    out, data = tmp_path / "run", write_photos(tmp_path / "photos", 12)
    (tmp_path / "tiny.json").write_text(TINY_CONFIG.to_json())
    options = ["--data", str(data), "--config", str(tmp_path / "tiny.json"), "--out", str(out)]
    options += ["--steps", "60", "--crops", "16x4", "--dtype", "f32", "--record-every", "1"]

    def command() -> list[subprocess.Popen[str]]:
        address, main = free_address(), "from aura_jax.cli.app import main; main()"
        return [
            subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    main,
                    "train",
                    *options,
                    "--coordinator",
                    f"{address},2,{i}",
                ],
                stdout=subprocess.PIPE,
                text=True,
            )
            for i in range(2)
        ]

    processes, metrics = command(), out / "metrics.jsonl"
    while not metrics.exists() or metrics.read_text().count("\n") < 3:
        assert all(process.poll() is None for process in processes)
        time.sleep(0.02)
    processes[1].send_signal(signal.SIGINT)
    said = [process.communicate(timeout=240)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert "interrupted; the same command goes on from here" in said[0]
    assert "goes on" not in said[1]  # said once, by the first
    said = [process.communicate(timeout=240)[0] for process in command()]
    assert re.search(r"training from step [1-9]\d* to 60", said[0])
    steps = [json.loads(line)["step"] for line in metrics.read_text().splitlines()]
    assert steps == list(range(1, 61))


def free_address() -> str:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return f"localhost:{free.getsockname()[1]}"

"""The same steps on one device, on eight, and in two processes."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from aura_jax.tolerances import SUM_ORDER
from tests.conftest import ROOT

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
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    out = tmp_path / "weights.npz"
    finish(*(start(str(out), f"localhost:{port},2,{index}") for index in range(2)))
    check_equal(out, alone, 2)

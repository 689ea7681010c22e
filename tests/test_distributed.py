"""Several devices and several processes train as one device does; processes stop together."""

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aura_jax
from aura_jax import AuraEquiVAE
from aura_jax.training import Trainer
from convert.tolerances import SUM_ORDER
from tests.commands import quick_environment
from tests.conftest import ROOT
from tests.photo_folder import write_photos
from tests.recipes import PLAIN
from tests.train_together import RUN, START, STOP, first_steps


def train(folder: Path, *coordinators: str, devices: int = 1) -> Path:
    """The results of processes that train together."""
    environment = quick_environment(devices)
    command = [sys.executable, "-m", "tests.train_together", str(folder)]
    processes = [
        subprocess.Popen([*command, *filter(None, [each])], cwd=ROOT, env=environment)
        for each in coordinators
    ]
    try:
        assert {process.wait(timeout=300) for process in processes} == {0}
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return folder / "results.npz"


@pytest.fixture(scope="module")
def folder(vae_to_train: AuraEquiVAE, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the model to start from, and images."""
    folder = tmp_path_factory.mktemp("together")
    aura_jax.save(vae_to_train, folder / START)
    write_photos(folder / "photos", 16)
    return folder


@pytest.fixture(scope="module")
def expected(vae_to_train: AuraEquiVAE) -> dict[str, Any]:
    """The results of one device."""
    return first_steps(Trainer(PLAIN, vae_to_train))


def check_equal(results: Path, expected: dict[str, Any], devices: int) -> None:
    with np.load(results) as result:
        assert (int(result["devices"]), expected["devices"]) == (devices, 1)
        np.testing.assert_allclose(result["losses"], expected["losses"], rtol=SUM_ORDER)
        names = [name for name in expected if name.startswith("gradient")]
        errors = [np.linalg.norm(result[name] - expected[name]) for name in names]
        sizes = [np.linalg.norm(expected[name]) for name in names]
    assert len(names) > 40
    assert max(errors) < SUM_ORDER * max(sizes)
    assert np.linalg.norm(errors) < SUM_ORDER * np.linalg.norm(sizes)


def test_eight_devices_do_what_one_does(expected: dict[str, Any], folder: Path) -> None:
    check_equal(train(folder, "", devices=8), expected, 8)


def test_two_processes_do_what_one_does_and_stop_together(
    expected: dict[str, Any], folder: Path
) -> None:
    """One of them is interrupted after two steps; both save, and both resume."""
    address = free_address()
    results = train(folder, f"{address},2,0", f"{address},2,1")
    check_equal(results, expected, 2)
    with np.load(results) as result:
        assert result["finished"].tolist() == [False, True]
        assert result["first"].tolist() == [0, STOP]
    lines = (folder / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, RUN.steps + 1))


def free_address() -> str:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return f"localhost:{free.getsockname()[1]}"

"""Several devices and several processes train as one device does; processes stop together."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np

from aura_jax.dtypes import FLOAT32
from aura_jax.training import Trainer, new_model
from convert.tolerances import SUM_ORDER
from tests.conftest import ROOT
from tests.photo_folder import write_photos
from tests.recipes import ONE_LEVEL
from tests.train_two_steps import RECIPE, two_steps


def train(folder: Path, *coordinators: str, devices: int = 1) -> Path:
    """The results of processes that train together."""
    flags = f"--xla_force_host_platform_device_count={devices}"
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "tests.train_two_steps", str(folder)]
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


def check_equal(results: Path, devices: int) -> None:
    expected = two_steps(Trainer(RECIPE, new_model(ONE_LEVEL, FLOAT32, RECIPE.seed)))
    with np.load(results) as result:
        assert (int(result["devices"]), expected["devices"]) == (devices, 1)
        np.testing.assert_allclose(result["losses"], expected["losses"], rtol=SUM_ORDER)
        names = [name for name in expected if name.startswith("gradient")]
        errors = [np.linalg.norm(result[name] - expected[name]) for name in names]
        sizes = [np.linalg.norm(expected[name]) for name in names]
    assert len(names) > 40
    assert max(errors) < SUM_ORDER * max(sizes)
    assert np.linalg.norm(errors) < SUM_ORDER * np.linalg.norm(sizes)


def test_eight_devices_do_what_one_does(tmp_path: Path) -> None:
    check_equal(train(tmp_path, "", devices=8), 8)


def test_two_processes_do_what_one_does_and_stop_together(tmp_path: Path) -> None:
    """One of them is interrupted after two steps; both save, and both resume."""
    write_photos(tmp_path / "photos", 16)
    address = free_address()
    results = train(tmp_path, f"{address},2,0", f"{address},2,1")
    check_equal(results, 2)
    with np.load(results) as result:
        assert result["finished"].tolist() == [False, True]
        assert result["first"].tolist() == [0, 2]
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, 7))


def free_address() -> str:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return f"localhost:{free.getsockname()[1]}"

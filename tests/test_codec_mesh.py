"""A codec on a mesh of eight virtual devices."""

import os
import subprocess
import sys

from tests.conftest import ROOT


def test_eight_devices_compute_what_one_does() -> None:
    """In a process of its own, since JAX counts its devices once; level 0 compiles faster."""
    flags = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "pytest", "-q", "tests/eight_devices.py"]
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr

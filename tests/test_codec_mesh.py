"""A codec on a mesh of eight virtual devices."""

import subprocess
import sys

from tests.commands import quick_environment
from tests.conftest import ROOT


def test_eight_devices_compute_what_one_does() -> None:
    """In a process of its own, since JAX counts its devices once."""
    # Without the import hook of jaxtyping, which takes as long as the other imports.
    command = [sys.executable, "-m", "pytest", "-q", "-o", "addopts=", "tests/eight_devices.py"]
    result = subprocess.run(
        command, cwd=ROOT, env=quick_environment(8), capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr

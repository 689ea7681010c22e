"""Run commands in this process or in a new one."""

import os
import subprocess
import sys
from typing import Any

import typer
from typer.testing import CliRunner


def invoke(app: typer.Typer, *words: object) -> str:
    """Run a command in this process; raise what it raises, return what it prints."""
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def start(*words: object, python: tuple[str, ...] = (), **options: Any) -> subprocess.Popen[str]:
    """Start `aura-jax` with these arguments in a new process, and capture its output.

    Args:
        words: the arguments of the command.
        python: options of the Python interpreter.
        options: more arguments of `subprocess.Popen`.
    """
    command = [sys.executable, *python, "-m", "aura_jax", *map(str, words)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, **options)


def quick_environment(devices: int = 1) -> dict[str, str]:
    """Return variables for processes that compile fast, where no result is compared bit by bit.

    Args:
        devices: the number of virtual CPU devices.
    """
    flags = f"--xla_backend_optimization_level=0 --xla_force_host_platform_device_count={devices}"
    return {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}

"""Describe the machine of a measurement, and write results to JSON with it."""

import datetime
import json
import math
import re
import subprocess
from pathlib import Path
from typing import Any

from aura_jax.files import replacing
from benchmarks.workers.process import ROOT, Worker

RESULTS = Path(__file__).parent / "results"
MEMORY = {
    "cpu": "peak resident memory of the process, libraries and compilers included",
    "gpu": "weights, inputs and what one call adds: for PyTorch its allocator's peak during the "
    "call, for JAX the temporaries and results that XLA plans",
}
DRIVER = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
COMMIT = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]


def describe() -> dict[str, Any]:
    """Return the date, the device, and the versions of all packages."""
    with Worker("jax_worker") as jax, Worker("torch_worker") as torch:
        return described(jax, torch)


def described(jax: Worker, torch: Worker) -> dict[str, Any]:
    """Return the same from workers that run already."""
    found = jax.ask("describe") | {"torch": torch.ask("describe")}
    return {
        "date": datetime.date.today().isoformat(),
        "commit": _line(COMMIT),
        "driver": _line(DRIVER),
        **found,
        "peak_bytes": MEMORY["cpu" if found["platform"] == "cpu" else "gpu"],
    }


def results_path(machine: dict[str, Any], suffix: str = "") -> Path:
    """Return benchmarks/results/DEVICE-DATE.json, in a folder that exists."""
    RESULTS.mkdir(exist_ok=True)
    device = re.sub(r"\W+", "-", machine["device"].lower()).strip("-")
    return RESULTS / f"{device}-{machine['date']}{suffix}.json"


def write_json(out: Path, content: dict[str, Any]) -> None:
    """Write results, which replace those of the same run so far.

    JSON has no NaN and no infinity: they become the strings "nan" and "inf".
    """
    with replacing(out) as path:
        path.write_text(json.dumps(_without_nan(content), indent=1, allow_nan=False) + "\n")


def _without_nan(content: Any) -> Any:
    if isinstance(content, dict):
        return {name: _without_nan(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [_without_nan(value) for value in content]
    is_number = not isinstance(content, float) or math.isfinite(content)
    return content if is_number else str(content)


def _line(command: list[str]) -> str | None:
    """Return the first line that a program prints; None if it is missing or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return next(iter(done.stdout.splitlines()), None)

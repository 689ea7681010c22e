"""Converts and loads a full-size checkpoint of random weights: seconds, and peak memory.

    python -m benchmarks.full_size_checkpoint

Each step runs in a process of its own, whose peak resident memory the system reports. That counts
the pages of a mapped file too, and everything that JAX and Python bring along.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax.numpy as jnp
import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

from aura_jax import AuraConfig
from aura_jax.layout import torch_name, torch_shape
from aura_jax.strict import blueprint, parameters

WRITE = "from benchmarks.full_size_checkpoint import *; write_random_checkpoint(Path({path!r}))"
LOAD = "import aura_jax, jax; jax.block_until_ready(aura_jax.load({path!r}))"


def main() -> None:
    """Writes the checkpoint to a temporary folder, measures, prints a line a step."""
    with tempfile.TemporaryDirectory() as folder:
        source, flax = Path(folder) / "torch.pt", Path(folder) / "flax.safetensors"
        # In a process of its own, as a child's peak is never reported below its parent's size.
        subprocess.run([sys.executable, "-c", WRITE.format(path=str(source))], check=True)
        size = source.stat().st_size
        print(f"checkpoint: {size / 1e6:.0f} MB, bf16, random weights")
        convert = ["-m", "convert", str(source), str(flax)]
        for name, arguments in (
            ("import aura_jax", ["-c", "import aura_jax"]),
            ("convert torch to flax", convert),
            ("load torch layout", ["-c", LOAD.format(path=str(source))]),
            ("load flax layout", ["-c", LOAD.format(path=str(flax))]),
        ):
            seconds, peak = measure([sys.executable, *arguments])
            print(f"{name}: {seconds:.1f} s, peak {peak / 1e6:.0f} MB = {peak / size:.2f} x file")


def write_random_checkpoint(path: Path) -> None:
    """The published names, shapes and type; values of a plausible size."""
    _, state = blueprint(AuraConfig(), jnp.dtype("float32"), jnp.dtype("float32"))
    rng = np.random.default_rng(0)
    tensors = {}
    for name, param in parameters(state).items():
        values = 0.02 * rng.standard_normal(torch_shape(tuple(param.shape)), np.float32)
        tensors[torch_name(name)] = values.astype(ml_dtypes.bfloat16)
    save_file(tensors, path)


def measure(command: list[str]) -> tuple[float, int]:
    """Wall-clock seconds and peak resident bytes of a process."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed")
    return time.perf_counter() - start, usage.ru_maxrss * 1024


if __name__ == "__main__":
    main()

"""Converts and loads a full-size checkpoint of random weights: seconds, and peak memory.

    python -m benchmarks.full_size_checkpoint

Each step runs in a process of its own, whose peak resident memory the system reports. That counts
the pages of a mapped file too, and everything that JAX and Python bring along.
"""

import math
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
from aura_jax.checkpoint.names import torch_name, torch_shape
from aura_jax.checkpoint.validation import blueprint, parameters

ROOT = Path(__file__).parent.parent
WRITE = """
from benchmarks.full_size_checkpoint import *
write_random_checkpoint(Path({path!r}), AuraConfig.from_json({config!r}))
"""
LOAD = "import aura_jax, jax; jax.block_until_ready(aura_jax.load({path!r}))"


def main() -> None:
    """Writes the checkpoint to a temporary folder, measures, prints a line a step."""
    with tempfile.TemporaryDirectory() as folder:
        source, flax = Path(folder) / "torch.pt", Path(folder) / "flax.safetensors"
        # In a process of its own, as a child's peak is never reported below its parent's size.
        write_elsewhere(source, AuraConfig())
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


def write_elsewhere(path: Path, config: AuraConfig) -> None:
    """Runs `write_random_checkpoint` in a process of its own, which leaves a GPU alone."""
    code = WRITE.format(path=str(path), config=config.to_json())
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, env=environment)


def write_random_checkpoint(path: Path, config: AuraConfig) -> None:
    """The names, shapes and type that a published model of these sizes would have."""
    _, state = blueprint(config, jnp.dtype("float32"), jnp.dtype("float32"))
    rng = np.random.default_rng(0)
    tensors = {}
    for name, param in parameters(state).items():
        values = rng.standard_normal(torch_shape(tuple(param.shape)), np.float32)
        tensors[torch_name(name)] = _plausible(name, values).astype(ml_dtypes.bfloat16)
    save_file(tensors, path)


def _plausible(name: str, normal: np.ndarray) -> np.ndarray:
    """Normal numbers scaled so that every layer matters: activations neither die nor explode."""
    if name.endswith("kernel"):
        return normal / np.float32(math.sqrt(math.prod(normal.shape[1:])))
    return 0.02 * normal + name.endswith("scale")


def measure(command: list[str], **variables: str) -> tuple[float, int]:
    """Wall-clock seconds and peak resident bytes of a process, given environment variables too."""
    start = time.perf_counter()
    environment = {**os.environ, **variables}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed")
    return time.perf_counter() - start, usage.ru_maxrss * 1024


if __name__ == "__main__":
    main()

"""The command python -m benchmarks.full_size_checkpoint: time and memory to convert and load."""

import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.filesize import decimal
from safetensors.numpy import save_file

from aura_jax import AuraConfig, AuraError
from aura_jax.checkpoint.names import torch_name, torch_shape
from aura_jax.cli.run import new_app, run
from aura_jax.console import say
from aura_jax.dtypes import BFLOAT16, FLOAT32
from aura_jax.model.parameters import blueprint, shapes_of

ROOT = Path(__file__).parent.parent
WRITE = """
from benchmarks.full_size_checkpoint import *
write_random_checkpoint(Path({path!r}), AuraConfig.from_json({config!r}))
"""
LOAD = "import aura_jax, jax; jax.block_until_ready(aura_jax.load({path!r}))"

app = new_app(add_completion=False)


@app.command(epilog="Example: python -m benchmarks.full_size_checkpoint")
def main() -> None:
    """Measure the conversion and loading of a random checkpoint of the published sizes.

    Each step is a new process, whose time and peak resident memory include
    Python, JAX and the pages of a mapped file.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, flax = Path(folder) / "torch.pt", Path(folder) / "flax.safetensors"
        # In another process: Linux never reports a child's peak below its parent's size.
        write_elsewhere(source, AuraConfig())
        size = source.stat().st_size
        say(f"checkpoint: {decimal(size)}, bfloat16, random weights")
        convert = ["-m", "convert", str(source), str(flax)]
        for name, arguments in (
            ("import aura_jax", ["-c", "import aura_jax"]),
            ("convert PyTorch to Flax", convert),
            ("load, PyTorch layout", ["-c", LOAD.format(path=str(source))]),
            ("load, Flax layout", ["-c", LOAD.format(path=str(flax))]),
        ):
            seconds, peak = measure([sys.executable, *arguments])
            say(f"{name}: {seconds:.1f} s, peak {decimal(peak)} = {peak / size:.2f} x the file")


def write_elsewhere(path: Path, config: AuraConfig) -> None:
    """Run `write_random_checkpoint` in another process, which does not use a GPU."""
    code = WRITE.format(path=str(path), config=config.to_json())
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, env=environment)


def write_random_checkpoint(path: Path, config: AuraConfig) -> None:
    """Write random weights with the names, shapes and dtype of a published checkpoint."""
    rng = np.random.default_rng(0)
    tensors = {}
    for name, shape in shapes_of(blueprint(config, FLOAT32, FLOAT32)).items():
        values = rng.standard_normal(torch_shape(shape), np.float32)
        tensors[torch_name(name)] = _plausible(name, values).astype(BFLOAT16)
    save_file(tensors, path)


def _plausible(name: str, normal: np.ndarray) -> np.ndarray:
    """Scale normal numbers so that every layer matters: activations neither die nor explode."""
    if name.endswith("kernel"):
        return normal / np.float32(math.sqrt(math.prod(normal.shape[1:])))
    return 0.02 * normal + name.endswith("scale")


def measure(command: list[str], **variables: str) -> tuple[float, int]:
    """Run a process, and return its seconds and peak resident bytes.

    Args:
        command: the program and its arguments.
        variables: additional environment variables.

    Raises:
        AuraError: if the process fails.
    """
    start = time.perf_counter()
    environment = {**os.environ, **variables}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise AuraError(f"{' '.join(command)}: failed with exit status {process.returncode}")
    return time.perf_counter() - start, usage.ru_maxrss * 1024


if __name__ == "__main__":
    run(app)

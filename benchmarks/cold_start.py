"""The command python -m benchmarks.cold_start: time from Python's start to a decoded image."""

import sys
import tempfile

from rich import box
from rich.filesize import decimal
from rich.table import Table

from aura_jax.cli.run import new_app, run
from aura_jax.console import console
from benchmarks.full_size_checkpoint import measure

DECODE = """
import jax.numpy as jnp
import aura_jax
codec = aura_jax.Codec(aura_jax.load("small"))
codec.decode(jnp.zeros((1, 32, 32, 16))).block_until_ready()
"""

app = new_app(add_completion=False)


@app.command(epilog="Example: python -m benchmarks.cold_start")
def main() -> None:
    """Measure the time from the start of a process to its first decoded image.

    The output is a Markdown table. The image has 256 × 256 pixels, the checkpoint is the one that
    comes with the package, and the device is the default. Each row is a new process: without JAX's
    compilation cache, with an empty cache, and with a filled cache.
    """
    command = [sys.executable, "-c", DECODE]
    # The cache holds code that will be run, so only its owner may write to it: mode 0700.
    with tempfile.TemporaryDirectory() as folder:
        keep = {
            "JAX_COMPILATION_CACHE_DIR": folder,
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
        table = Table("compilation cache", "seconds", "peak memory", box=box.MARKDOWN)
        for state, variables in (("none", {}), ("empty", keep), ("filled", keep)):
            seconds, peak = measure(command, **variables)
            table.add_row(state, f"{seconds:.2f}", decimal(peak))
    console.print(table)


if __name__ == "__main__":
    run(app)

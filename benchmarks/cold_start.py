"""From the start of a process to its first decoded image, with and without JAX's compile cache.

    python -m benchmarks.cold_start

The image is 256 × 256, of the checkpoint that comes with the package, on the default device. Each
line is a process of its own.
"""

import sys
import tempfile

from rich import box
from rich.filesize import decimal
from rich.table import Table

from aura_jax.console import console
from benchmarks.full_size_checkpoint import measure

DECODE = """
import jax.numpy as jnp
import aura_jax
codec = aura_jax.Codec(aura_jax.load("small"))
codec.decode(jnp.zeros((1, 32, 32, 16))).block_until_ready()
"""


def main() -> None:
    """Measures, prints a row for each state of the cache."""
    command = [sys.executable, "-c", DECODE]
    # A cache holds code that is run, so nobody else may write to it: such folders have mode 0700.
    with tempfile.TemporaryDirectory() as folder:
        keep = {
            "JAX_COMPILATION_CACHE_DIR": folder,
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
        table = Table("compile cache", "seconds", "peak memory", box=box.MARKDOWN)
        for state, variables in (("none", {}), ("empty", keep), ("filled", keep)):
            seconds, peak = measure(command, **variables)
            table.add_row(state, f"{seconds:.2f}", decimal(peak))
    console.print(table)


if __name__ == "__main__":
    main()

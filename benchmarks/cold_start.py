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
codec = aura_jax.Codec(aura_jax.load("small"), dtype="float32", executables={folder!r})
codec.decode(jnp.zeros((1, 32, 32, 16))).block_until_ready()
"""
SAVE = "codec.save_executables({folder!r})"

app = new_app(add_completion=False)


@app.command(epilog="Example: python -m benchmarks.cold_start")
def main() -> None:
    """Measure the time from the start of a process to its first decoded image.

    The output is a Markdown table. The image has 256 × 256 pixels and is
    decoded in float32, the checkpoint is the one that comes with the package,
    and the device is the default. Each row is a new process: without anything
    kept, with JAX's compilation cache while it is empty and when it is filled,
    and with a folder of the codec's executables.
    """
    # Both folders hold code that will be run, so only their owner has access: mode 0700.
    with tempfile.TemporaryDirectory() as cache, tempfile.TemporaryDirectory() as executables:
        keep = {
            "JAX_COMPILATION_CACHE_DIR": cache,
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
        plain = DECODE.format(folder=None)
        kept = DECODE.format(folder=executables)
        none = {"JAX_ENABLE_COMPILATION_CACHE": "false"}
        measure([sys.executable, "-c", kept + SAVE.format(folder=executables)], **none)
        table = Table("kept", "seconds", "peak memory", box=box.MARKDOWN)
        for state, code, variables in (
            ("nothing", plain, none),
            ("compilation cache, empty", plain, keep),
            ("compilation cache, filled", plain, keep),
            ("executables", kept, none),
        ):
            seconds, peak = measure([sys.executable, "-c", code], **variables)
            table.add_row(state, f"{seconds:.2f}", decimal(peak))
    console.print(table)


if __name__ == "__main__":
    run(app)

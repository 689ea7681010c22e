"""The command python -m benchmarks.parity: the table of errors in docs/converting.md."""

import jax.numpy as jnp
from rich import box
from rich.table import Table

import aura_jax
from aura_jax.cli.run import new_app, run
from aura_jax.console import console
from benchmarks.golden import GOLDEN_WEIGHTS, OUTPUTS, our_error, read_golden, torch_error
from convert.stages import flax_outputs

app = new_app(add_completion=False)


@app.command(epilog="Example: python -m benchmarks.parity")
def main() -> None:
    """Print a Markdown table of the errors of this package and PyTorch on the golden vectors.

    Errors are relative L2 distances from float64 runs of the reference.
    """
    golden = read_golden()
    table = Table("output", "dtype", "aura-jax", "PyTorch", box=box.MARKDOWN)
    for dtype, label in ((jnp.float32, "f32"), (jnp.bfloat16, "bf16")):
        vae = aura_jax.load(GOLDEN_WEIGHTS, dtype=dtype)
        for output in OUTPUTS:
            ours = our_error(golden, output, lambda *x, vae=vae: flax_outputs(vae, *x)["conv_out"])
            theirs = torch_error(golden, output, label)
            other = "" if theirs is None else f"{theirs:.2e}"
            table.add_row(output, str(jnp.dtype(dtype)), f"{ours:.2e}", other)
    console.print(table)


if __name__ == "__main__":
    run(app)

"""The README's parity table: errors on the golden vectors, ours and PyTorch's.

    python -m benchmarks.parity

Relative L2 errors against float64 runs of the reference; see tests/data/README.md.
"""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
from rich import box
from rich.table import Table

import aura_jax
from aura_jax.checkpoint.tensors import open_safetensors
from aura_jax.console import console
from convert.parity import Part, flax_outputs, relative_error

DATA = Path(__file__).parent.parent / "tests" / "data"
# Each golden output, the network that makes it, and the golden input it is made of.
OUTPUTS: dict[str, tuple[Part, str]] = {
    "latents": ("encoder", "images"),
    "decoded": ("decoder", "latents"),
    "odd_latents": ("encoder", "odd_images"),
    "odd_decoded": ("decoder", "odd_latents"),
}


def read_golden() -> dict[str, np.ndarray]:
    """The golden vectors by name, NHWC."""
    stored = open_safetensors(DATA / "small_io.safetensors")
    return {name: tensor.read().transpose(0, 2, 3, 1) for name, tensor in stored.tensors.items()}


def main() -> None:
    """Prints a row per output and type."""
    golden = read_golden()
    table = Table("output", "type", "aura-jax", "PyTorch", box=box.MARKDOWN)
    for dtype, label in ((jnp.float32, "f32"), (jnp.bfloat16, "bf16")):
        vae = aura_jax.load(DATA / "small_bf16.pt", dtype=dtype)
        for output, (part, source) in OUTPUTS.items():
            x = golden[source].clip(-8, 8)  # images lie in [-1, 1]; latents are clamped
            ours = relative_error(flax_outputs(vae, part, x)["conv_out"], golden[output])
            theirs = golden.get(f"torch_{label}.{output}")
            other = "" if theirs is None else f"{relative_error(theirs, golden[output]):.2e}"
            table.add_row(output, label, f"{ours:.2e}", other)
    console.print(table)


if __name__ == "__main__":
    main()

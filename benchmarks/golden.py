"""Read and compare the golden vectors (see tests/data/README.md), without PyTorch."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from aura_jax.arrays import relative_error
from aura_jax.checkpoint.tensors import open_safetensors
from aura_jax.config import LATENT_LIMIT
from convert.stages import Part

DATA = Path(__file__).parent.parent / "tests" / "data"
GOLDEN_WEIGHTS = DATA / "small_bf16.pt"
# The network and the golden input of each golden output.
OUTPUTS: dict[str, tuple[Part, str]] = {
    "latents": ("encoder", "images"),
    "decoded": ("decoder", "latents"),
    "odd_latents": ("encoder", "odd_images"),
    "odd_decoded": ("decoder", "odd_latents"),
}


def read_golden() -> dict[str, np.ndarray]:
    """Read the golden vectors by name, NHWC."""
    stored = open_safetensors(DATA / "small_io.safetensors")
    return {name: tensor.read().transpose(0, 2, 3, 1) for name, tensor in stored.tensors.items()}


def our_error(
    golden: Mapping[str, np.ndarray], output: str, run: Callable[[Part, np.ndarray], np.ndarray]
) -> float:
    """Return the relative L2 error of a network's output from the golden one.

    Args:
        golden: the golden vectors.
        output: the name of a golden output.
        run: computes a network's output from its input.
    """
    part, source = OUTPUTS[output]
    x = golden[source].clip(-LATENT_LIMIT, LATENT_LIMIT)  # images lie in [-1, 1]
    return relative_error(run(part, x), golden[output])


def torch_error(golden: Mapping[str, np.ndarray], output: str, label: str) -> float | None:
    """Return PyTorch's own error in a dtype, "f32" or "bf16"; None where it is not recorded."""
    theirs = golden.get(f"torch_{label}.{output}")
    return None if theirs is None else relative_error(theirs, golden[output])

"""Read the golden vectors of the reference (see tests/data/README.md), without PyTorch."""

from pathlib import Path

import numpy as np

from aura_jax.checkpoint.tensors import open_safetensors
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

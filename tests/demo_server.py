"""A page of `aura-jax demo` on the loopback address, with small pictures."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import aura_jax
from aura_jax.demo.experiment import (
    Checkpoint,
    Outcome,
    encode_photograph,
    load_checkpoint,
    read_photograph,
    try_flip,
)
from aura_jax.images.options import Decoding
from aura_jax.runtime.codec import Codec
from aura_jax.symmetry import FLIPS

SIZE = 64
MAX_BYTES = 2**20
MAX_PIXELS = 300_000


def two_checkpoints() -> dict[str, Checkpoint]:
    """Load the small checkpoint, and make one that differs in brightness alone."""
    vae = aura_jax.load("small", dtype="float32")
    bias = vae.decoder.conv_out.bias
    assert bias is not None
    bias[...] += 0.5
    return {
        "small": load_checkpoint("small", "float32"),
        "bright": Checkpoint(Codec(vae), "0" * 64),
    }


@contextmanager
def demo_server(
    folder: Path, checkpoints: dict[str, Checkpoint], size: int = SIZE
) -> Iterator[str]:
    """Serve a page that keeps its files in `folder`, and yield its address."""
    # Gradio takes 5 s to import, and every worker of pytest imports every test.
    from aura_jax.demo import server
    from aura_jax.demo.page import build_page

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(folder))
        patch.setattr(server, "MAX_BYTES", MAX_BYTES)
        page = partial(build_page, checkpoints, size, Decoding(MAX_PIXELS))
        with server.serving(page, server.listen(0)) as address:
            yield address


def expected(checkpoint: Checkpoint, path: Path, flip: str, sigma: float = 0.0) -> Outcome:
    """Compute what the page shows."""
    photograph = read_photograph(path, SIZE, Decoding(), pytest.fail)
    latent = encode_photograph(checkpoint.codec, photograph)
    return try_flip(checkpoint.codec, photograph.pixels, latent, FLIPS[flip], sigma)


def write_noise(path: Path, seed: int, size: int = SIZE) -> np.ndarray:
    """Write a picture of smooth random colors, and return its pixels."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    image = Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC)
    image.save(path)
    return np.asarray(image)

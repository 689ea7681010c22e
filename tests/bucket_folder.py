"""Images of several shapes, and a cache of them in buckets."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aura_jax.latents.buckets import Bucket
from tests.cache_folder import make, weights

__all__ = ["weights"]  # a fixture

BUCKETS = [Bucket(16, 16), Bucket(8, 24), Bucket(24, 8)]
SIZES = [(40, 40), (30, 80), (44, 40), (90, 30), (20, 20), (16, 40), (33, 80), (64, 64), (80, 30)]
OPTIONS = {"size": None, "buckets": BUCKETS}


def write_shapes(folder: Path) -> Path:
    """Write images of smooth random colors, of several heights and widths."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i, (height, width) in enumerate(SIZES):
        coarse = Image.fromarray(rng.integers(0, 255, (4, 4, 3), np.uint8))
        smooth = coarse.resize((width, height), Image.Resampling.BICUBIC)
        smooth.save(folder / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the images."""
    return write_shapes(tmp_path_factory.mktemp("shapes") / "photos")


@pytest.fixture(scope="module")
def bucketed(tmp_path_factory: pytest.TempPathFactory, shapes: Path, weights: Path) -> Path:
    """Make a cache of them with the fake encoder."""
    out = tmp_path_factory.mktemp("bucketed") / "latents"
    make(shapes, out, weights, **OPTIONS)
    return out

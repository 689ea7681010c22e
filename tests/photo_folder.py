"""Write small random images, and read images."""

from pathlib import Path

import numpy as np
from PIL import Image

from aura_jax.images.readers import ImageFile
from aura_jax.images.transforms import Pixels


def read_image(path: Path) -> Pixels:
    """Read an image as the commands do."""
    return ImageFile(path).pixels()


def write_photos(folder: Path, count: int, size: int = 48) -> Path:
    """Write images with smooth random content; their files are named by number."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for i in range(count):
        coarse = Image.fromarray(rng.integers(0, 255, (6, 6, 3), np.uint8))
        coarse.resize((size, size), Image.Resampling.BICUBIC).save(folder / f"{i:03}.png")
    return folder


def random_crops(seed: int = 0, batch: int = 8, size: int = 8) -> np.ndarray:
    """Return 8-bit crops made of random colors, in squares of 4 pixels a side."""
    coarse = np.random.default_rng(seed).integers(0, 256, (batch, size // 4, size // 4, 3))
    return coarse.repeat(4, axis=1).repeat(4, axis=2).astype(np.uint8)

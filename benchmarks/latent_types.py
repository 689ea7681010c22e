"""The command python -m benchmarks.latent_types: measure the cost of storing latents in fewer bits.

Latents are computed in float32, quantized, dequantized, decoded, and compared with the photographs.
The size of ImageNet is the size of a shard of 1000 latents, scaled up.
"""

import tempfile
from pathlib import Path
from typing import Annotated

import jax.numpy as jnp
import numpy as np
import typer
from rich import box
from rich.table import Table

from aura_jax import Codec
from aura_jax.arrays import relative_error
from aura_jax.cli.options import DEFAULT_WEIGHTS, Images, Weights
from aura_jax.cli.run import new_app, run
from aura_jax.console import console
from aura_jax.images.quality import psnr
from aura_jax.images.readers import find_images
from aura_jax.images.transforms import square_pixels, to_uint8
from aura_jax.latents.quantize import dequantize, quantize
from aura_jax.latents.shard_io import writing
from aura_jax.latents.spec import STORAGE_DTYPES
from aura_jax.photo_latents import load_rgb

SHARD, IMAGENET = 1000, 1_281_167  # latents

app = new_app(add_completion=False)


@app.command(epilog="Example: python -m benchmarks.latent_types photos/held_out")
def main(
    photos: Images,
    weights: Weights = DEFAULT_WEIGHTS,
    size: Annotated[
        int, typer.Option(help="Side in pixels of the centered square of each photograph.")
    ] = 256,
) -> None:
    """Print the file size, latent error and PSNR of each storage dtype as a Markdown table."""
    pixels = np.stack([square_pixels(file.pixels(), size) for file in find_images(photos)])
    codec = Codec(load_rgb(weights, dtype=jnp.float32))
    latents = np.asarray(codec.encode(pixels))
    table = Table("dtype", "ImageNet, GB", "relative L2", "PSNR, dB", "lost, dB", box=box.MARKDOWN)
    best = _psnr(codec, latents, pixels)
    for dtype in STORAGE_DTYPES:
        kept = quantize(latents, dtype)
        z = dequantize(kept)
        decibels, relative = _psnr(codec, z, pixels), f"{relative_error(z, latents):.1e}"
        imagenet = f"{_shard_bytes(kept) / SHARD * IMAGENET / 1e9:.1f}"
        table.add_row(str(dtype), imagenet, relative, f"{decibels:.3f}", f"{best - decibels:.4f}")
    console.print(table)


def _shard_bytes(kept: np.ndarray) -> int:
    """Measure a shard of these latents, with keys and labels of ImageNet's form."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shard"
        with writing(path, "arrayrecord") as write:
            for i in range(SHARD):
                key = f"n01440764/n01440764_{i}"
                write(kept[i % len(kept)], {"key": key, "label": "n01440764"})
        return path.stat().st_size


def _psnr(codec: Codec, latents: np.ndarray, pixels: np.ndarray) -> float:
    """Compute the mean PSNR of the decoded images, from 8-bit levels."""
    decoded = np.asarray(codec.decode(latents, as_uint8=True))
    pairs = zip(decoded, to_uint8(pixels), strict=True)
    return float(np.mean([psnr(a, b) for a, b in pairs]))


if __name__ == "__main__":
    run(app)

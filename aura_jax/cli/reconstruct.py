"""The command aura-jax reconstruct, which draws images beside their reconstructions."""

import math
from pathlib import Path
from typing import Annotated

import typer

from aura_jax.cli.options import (
    DEFAULT_WEIGHTS,
    ComputeDtype,
    Crop,
    Images,
    Json,
    MaxPixels,
    Overwrite,
    RawColors,
    Size,
    Weights,
    check_crop,
)
from aura_jax.cli.run import report
from aura_jax.cli.start import importing
from aura_jax.errors import printable
from aura_jax.files import check_outside
from aura_jax.images.options import MAX_PIXELS, Decoding

LABELS = {"none": "reconstruction", "h": "h flip", "v": "v flip", "hv": "hv flip"}


def reconstruct(
    images: Images,
    out: Annotated[Path, typer.Option(help="The image to write: .png, .jpg or .webp.")],
    weights: Weights = DEFAULT_WEIGHTS,
    size: Size = None,
    crop: Crop = None,
    compute_dtype: ComputeDtype = None,
    max_pixels: MaxPixels = MAX_PIXELS,
    raw_colors: RawColors = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Draw images beside their reconstructions from unchanged and flipped latents.

    The grid has a row for each image, and shows the PSNR of each reconstruction in decibels.
    """
    check_crop(size, crop)
    with importing():
        from aura_jax.cli import inputs, outputs
        from aura_jax.images.grid import grid
        from aura_jax.images.io import write_image
        from aura_jax.images.readers import ImageFile
        from aura_jax.images.transforms import Pixels8, to_uint8
    outputs.check_image(out, overwrite=overwrite)
    check_outside(out, images)
    files = inputs.find(images, out)
    with importing():
        from aura_jax.photo_latents import Reconstruction, load_rgb, reconstructions
        from aura_jax.runtime.fitted import FittedCodec
    vae, decoding = load_rgb(weights, dtype=compute_dtype), Decoding(max_pixels, raw_colors)
    # Encoding once and decoding four times costs about three times as much for each compilation.
    codec = FittedCodec(vae, 3 * inputs.sizes(files, decoding, size))

    def process(file: ImageFile) -> tuple[Pixels8, dict[str, Reconstruction]]:
        pixels = inputs.cut(inputs.pixels(file, decoding), size, crop)
        return to_uint8(pixels), reconstructions(codec, pixels)

    rows, results, lines = [], [], []
    for file, (original, versions) in inputs.each(files, process):
        height, width = original.shape[:2]
        title = f"{printable(file.name)}, {width} x {height}"
        labels = {name: f"{LABELS[name]}, {each.psnr:.2f} dB" for name, each in versions.items()}
        shown = [(labels[name], each.image) for name, each in versions.items()]
        rows.append([(title, original), *shown])
        lines.append(f"{title}: {'; '.join(labels.values())}")
        numbers = {name: _finite(each.psnr) for name, each in versions.items()}
        results.append({"image": str(file), "size": [width, height], "psnr_db": numbers})
    write_image(out, grid(f"weights: {weights}", rows))
    report(results, [*lines, f"wrote {out}"], as_json=as_json)
    inputs.check_complete(files, results)


def _finite(decibels: float) -> float | None:
    """Round a PSNR for JSON, which has no infinity: for equal images it is null."""
    return round(decibels, 4) if math.isfinite(decibels) else None

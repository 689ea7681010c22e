"""The command aura-jax equivariance: report how equivariant a checkpoint is."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import aura_jax
from aura_jax.cli.options import (
    DEFAULT_WEIGHTS,
    SQUARE,
    Equivariant,
    Images,
    Json,
    MaxPixels,
    Overwrite,
    RawColors,
    Weights,
)
from aura_jax.cli.start import importing
from aura_jax.console import console, progress, say
from aura_jax.errors import AuraError
from aura_jax.extras import needs
from aura_jax.files import check_folder, check_free, check_outside, replacing
from aura_jax.images.options import MAX_PIXELS, Decoding

if TYPE_CHECKING:
    from aura_jax.equivariance import Measures, Report
    from aura_jax.images.transforms import Pixels
    from aura_jax.model.autoencoder import AuraEquiVAE

SEED = 0
JSON_NAME, FIGURE_NAME = "report.json", "report.png"


def equivariance(
    images: Images,
    out: Annotated[Path, typer.Option(help="The folder to write report.json and report.png to.")],
    weights: Weights = DEFAULT_WEIGHTS,
    size: Annotated[int, typer.Option(help=f"{SQUARE} At least 40.")] = 256,
    equivariant: Equivariant = False,
    max_pixels: MaxPixels = MAX_PIXELS,
    raw_colors: RawColors = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Measure on photographs how exactly flips of latents act as flips of images.

    The report has the errors of the decoder, the encoder and the round trip,
    the recovered signs, and a control without signs. Everything is computed in
    float32.
    """
    _check_out(out, overwrite=overwrite)
    check_outside(out, images)
    with importing():
        from aura_jax.cli import inputs
        from aura_jax.images.transforms import square_pixels
    files = inputs.find(images, out / FIGURE_NAME)
    with importing(), needs("report"):
        from aura_jax.cli.equivariance_tables import lines, tables
        from aura_jax.equivariance import report
        from aura_jax.equivariance.figure import draw
    vae = _load(weights, size)
    if equivariant:
        vae = aura_jax.equivariant(vae)
    decoding = Decoding(max_pixels, raw_colors)
    squares = inputs.each(files, lambda file: square_pixels(inputs.pixels(file, decoding), size))
    measures = _measured(vae, {str(file): pixels for file, pixels in squares})
    result = report(
        measures,
        weights=weights,
        size=size,
        seed=SEED,
        dtype="float32",
        equivariant=equivariant,
    )
    _write(out, result, draw(result))
    if as_json:
        print(json.dumps(result, allow_nan=False))
    else:
        console.print(*tables(result))
        for line in (*lines(result), f"wrote {out / JSON_NAME} and {out / FIGURE_NAME}"):
            say(line)
    inputs.check_complete(files, squares)


def _check_out(out: Path, *, overwrite: bool) -> None:
    check_folder(out)
    for name in (JSON_NAME, FIGURE_NAME) if out.exists() else ():
        check_free(out / name, overwrite=overwrite)


def _load(weights: str, size: int) -> "AuraEquiVAE":
    """Load a model that takes images of this size, in float32: bfloat16 rounds by 1e-2."""
    from aura_jax.equivariance.metrics import BORDER
    from aura_jax.photo_latents import load_rgb

    if size <= 2 * BORDER:
        raise AuraError(f"--size {size}: expected more than {2 * BORDER} pixels")
    vae = load_rgb(weights, dtype="float32")
    if size % vae.config.downsampling:
        multiple = vae.config.downsampling
        raise AuraError(f"--size {size}: expected a multiple of {multiple}, which the model needs")
    return vae


def _measured(vae: "AuraEquiVAE", squares: "dict[str, Pixels]") -> "dict[str, Measures]":
    """Measure one image at a time, to save memory, and all with the same noise."""
    import jax

    from aura_jax.equivariance import measure

    key = jax.random.key(SEED)
    with progress() as bar:
        return {
            name: measure(vae, pixels, key)
            for name, pixels in bar.track(squares.items(), description="measure")
        }


def _write(out: Path, result: "Report", figure: bytes) -> None:
    """Write both files or none."""
    from aura_jax.documents import to_bytes

    out.mkdir(parents=True, exist_ok=True)
    with replacing(out / JSON_NAME) as json_file, replacing(out / FIGURE_NAME) as figure_file:
        json_file.write_bytes(to_bytes(result))
        figure_file.write_bytes(figure)

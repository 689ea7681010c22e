"""The command aura-jax equivariance: how equivariant is a checkpoint?"""

import json
from pathlib import Path
from typing import Annotated

import jax
import jax.numpy as jnp
import typer

from aura_jax.cli.options import DEFAULT_WEIGHTS, Json, Overwrite, Weights
from aura_jax.console import console, progress, say
from aura_jax.equivariance.measure import Measures, measure
from aura_jax.equivariance.metrics import BORDER
from aura_jax.equivariance.photos import read_squares
from aura_jax.equivariance.report import Report, report
from aura_jax.equivariance.tables import lines, tables
from aura_jax.errors import AuraError
from aura_jax.extras import needs
from aura_jax.files import check_folder, check_free, replacing
from aura_jax.images.readers import ImageFile, find_images
from aura_jax.images.transforms import Pixels
from aura_jax.model.autoencoder import AuraEquiVAE
from aura_jax.photo_latents import load_rgb

SEED = 0
JSON_NAME, FIGURE_NAME = "report.json", "report.png"


def equivariance(
    photos: Annotated[
        list[Path], typer.Argument(metavar="PHOTO", help="Pictures, or folders of pictures.")
    ],
    out: Annotated[Path, typer.Option(help="The folder for report.json and report.png.")],
    weights: Weights = DEFAULT_WEIGHTS,
    size: Annotated[
        int, typer.Option(help="Cut photographs to centered squares, scaled to this many pixels.")
    ] = 256,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Measure on photographs how exactly flips of latents are flips of images: figure and JSON."""
    with needs("report"):
        from aura_jax.equivariance.figure import draw
    _check_out(out, overwrite=overwrite)
    _check_size(size)
    squares = read_squares(_found(photos, out), size)
    measures = _measured(_load(weights, size), squares)
    result = report(measures, weights=weights, size=size, seed=SEED, dtype="float32")
    _write(out, result, draw(result))
    if as_json:
        print(json.dumps(result, allow_nan=False))
        return
    console.print(*tables(result))
    for line in (*lines(result), f"wrote {out / JSON_NAME} and {out / FIGURE_NAME}"):
        say(line)


def _check_out(out: Path, *, overwrite: bool) -> None:
    check_folder(out)
    for name in (JSON_NAME, FIGURE_NAME) if out.exists() else ():
        check_free(out / name, overwrite=overwrite)


def _check_size(size: int) -> None:
    if size <= 2 * BORDER:
        raise AuraError(f"--size {size}: expected more than {2 * BORDER} pixels")


def _found(photos: list[Path], out: Path) -> list[ImageFile]:
    """The photographs, none of which may be what the figure is going to replace."""
    files = find_images(photos)
    figure = out / FIGURE_NAME
    if figure.resolve() in [file.path.resolve() for file in files]:
        raise AuraError(f"{figure}: is among the photographs; give an --out apart from them")
    return files


def _load(weights: str, size: int) -> AuraEquiVAE:
    """A model for such photographs, computing in float32: bfloat16 would round by 1e-2."""
    vae = load_rgb(weights, dtype=jnp.float32)
    if size % vae.config.downsampling:
        multiple = vae.config.downsampling
        raise AuraError(f"--size {size}: expected a multiple of {multiple}, as the model takes")
    return vae


def _measured(vae: AuraEquiVAE, squares: dict[str, Pixels]) -> dict[str, Measures]:
    """One photograph at a time, which keeps memory small, and all with the same noise."""
    key = jax.random.key(SEED)
    with progress() as bar:
        return {
            name: measure(vae, pixels, key)
            for name, pixels in bar.track(squares.items(), description="measure")
        }


def _write(out: Path, result: Report, figure: bytes) -> None:
    """Both files or none."""
    document = json.dumps(result, allow_nan=False, ensure_ascii=False, indent=1).encode(
        errors="backslashreplace"  # bytes of a name that are not UTF-8, as JSON escapes them too
    )
    out.mkdir(parents=True, exist_ok=True)
    with replacing(out / JSON_NAME) as json_file, replacing(out / FIGURE_NAME) as figure_file:
        json_file.write_bytes(document)
        figure_file.write_bytes(figure)

"""The command aura-jax evaluate: measure how well checkpoints reconstruct images."""

import json
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from aura_jax.cli import evaluate_options as option
from aura_jax.cli.options import (
    DEFAULT_WEIGHTS,
    Images,
    Json,
    MaxPixels,
    Overwrite,
    RawColors,
)
from aura_jax.cli.start import importing
from aura_jax.console import console, say
from aura_jax.errors import AuraError
from aura_jax.extras import needs
from aura_jax.files import check_outside
from aura_jax.images.options import MAX_PIXELS, Decoding

if TYPE_CHECKING:
    from aura_jax.model.autoencoder import AuraEquiVAE
    from aura_jax.training.networks.lpips import LPIPS

DTYPE = "float32"  # bfloat16 rounds by 1e-2
SAME_NAMES = "their reconstructions are written to one folder; rename them, or omit --out"


def evaluate(
    images: Images,
    weights: option.Weights = [DEFAULT_WEIGHTS],  # noqa: B006  typer copies it
    out: option.Out = None,
    size: option.Size = 256,
    flips: option.Flips = False,
    storage: option.Storage = False,
    equivariant: option.Equivariant = False,
    perceptual: option.Perceptual = None,
    max_pixels: MaxPixels = MAX_PIXELS,
    raw_colors: RawColors = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Measure PSNR, SSIM and LPIPS of reconstructions, and the size of latents.

    All measures compare 8-bit images. Everything is computed in float32. With
    --out the compared images are written too, from which other programs compute
    rFID.
    """
    with importing():
        from aura_jax.cli import inputs
        from aura_jax.evaluation.folder import check_report_folder, writing
    _check_different(weights)
    if out is not None:
        check_report_folder(out, overwrite=overwrite)
        check_outside(out, images)
    files = inputs.find(images, out)
    names = {} if out is None else inputs.unique_names(files, SAME_NAMES)
    with importing():
        from aura_jax.cli.evaluate_tables import tables
        from aura_jax.evaluation.comparison import Comparison, Measured, write_report
        from aura_jax.images.readers import ImageFile
    if out is not None:
        with importing(), needs("report"):
            import aura_jax.evaluation.figure  # noqa: F401  before the work
    lpips = None if perceptual is None else _load_lpips(perceptual)
    models = _models(weights, size, averaged=equivariant)
    decoding = Decoding(max_pixels, raw_colors)
    with nullcontext() if out is None else writing(out) as folder:
        comparison = Comparison(models, size, folder, flips=flips, storage=storage, lpips=lpips)
        models.clear()  # their evaluators hold the weights as their executables need them

        def process(file: ImageFile) -> Measured:
            return comparison.measure(str(file), inputs.pixels(file, decoding), names.get(file))

        done = inputs.each(files, process)
        finished = {file for file, _ in done}
        skipped = [str(file) for file in files if file not in finished]
        report = comparison.report([measured for _, measured in done], skipped, DTYPE)
        if folder is not None:
            write_report(folder, report)
    if as_json:
        print(json.dumps(report.to_json(), allow_nan=False))
    else:
        console.print(*tables(report))
        if out is not None:
            say(f"wrote {out}")
    inputs.check_complete(files, done, "measured" if out is None else "written")


def _check_different(weights: list[str]) -> None:
    for name in weights:
        if weights.count(name) > 1:
            raise AuraError(f"--weights {name}: given twice; compare different checkpoints")


def _models(weights: list[str], size: int, *, averaged: bool) -> "dict[str, AuraEquiVAE]":
    """Load models by the names of their weights, and add each averaged over the flips if wanted."""
    from aura_jax.model.autoencoder import equivariant

    models = {name: _load(name, size) for name in weights}
    if averaged:
        models |= {f"{name}, equivariant": equivariant(vae) for name, vae in models.items()}
    return models


def _load(name: str, size: int) -> "AuraEquiVAE":
    """Load a model that takes images of this size."""
    from aura_jax.evaluation.measures import SMALLEST
    from aura_jax.photo_latents import load_rgb

    if size < SMALLEST:
        raise AuraError(f"--size {size}: expected {SMALLEST} pixels or more")
    vae = load_rgb(name, dtype=DTYPE)
    if size % (multiple := vae.config.downsampling):
        raise AuraError(f"--size {size}: expected a multiple of {multiple}, which {name} needs")
    return vae


def _load_lpips(path: Path) -> "LPIPS":
    from aura_jax.training.networks.lpips import load_perceptual

    network = load_perceptual(path).lpips
    if network is None:
        raise AuraError(f"{path}: holds VGG16 alone; convert it with --lpips, which LPIPS needs")
    return network

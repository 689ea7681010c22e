"""The command aura-jax export: write a checkpoint as programs that need JAX alone."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.filesize import decimal

from aura_jax.cli.options import (
    DEFAULT_WEIGHTS,
    Json,
    Overwrite,
    Weights,
    dtype_option,
)
from aura_jax.cli.run import report
from aura_jax.cli.start import importing
from aura_jax.runtime.choices import DEFAULT_PLATFORMS, PLATFORMS

SIZE = 256


def export(
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    weights: Weights = DEFAULT_WEIGHTS,
    sizes: Annotated[
        list[int] | None,
        typer.Option(
            "--size",
            metavar="PIXELS",
            help="Side in pixels of square images to export for, a multiple of 8; may be given "
            "several times.",
            show_default=str(SIZE),
        ),
    ] = None,
    platforms: Annotated[
        list[str] | None,
        typer.Option(
            "--platform",
            metavar="PLATFORM",
            help=f"Platform to export for: {', '.join(PLATFORMS)}; this machine need not have it. "
            "May be given several times.",
            show_default=", ".join(DEFAULT_PLATFORMS),
        ),
    ] = None,
    compute_dtype: Annotated[
        str,
        dtype_option(
            "--compute-dtype",
            "Compute in this dtype",
            ("bfloat16", "float16", "float32"),
        ),
    ] = "float32",
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Export a checkpoint as StableHLO programs, which run without this package.

    The folder has a program to encode and one to decode for each size, the
    weights, a description (export.json), and loader.py, which runs the programs
    on any number of images and needs only JAX and flatbuffers.
    """
    with importing():
        from aura_jax.checkpoint.loading import load
        from aura_jax.runtime.export import METADATA, check_export_folder
        from aura_jax.runtime.export import export as export_model
    check_export_folder(out, overwrite=overwrite)
    export_model(
        load(weights, dtype=compute_dtype),
        out,
        platforms=platforms or DEFAULT_PLATFORMS,
        shapes=[(side, side) for side in sizes or [SIZE]],
        overwrite=overwrite,
    )
    files = sorted(out.iterdir())
    report(
        json.loads((out / METADATA).read_text()),
        [f"wrote {path} ({decimal(path.stat().st_size)})" for path in files],
        as_json=as_json,
    )

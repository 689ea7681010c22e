"""The options of aura-jax evaluate, each as the type of its parameter."""

from pathlib import Path
from typing import Annotated

import typer

from aura_jax.cli.options import SQUARE

Weights = Annotated[
    list[str],
    typer.Option(
        help="The checkpoint: small (comes with the package), a file or folder, or a Hugging "
        "Face id such as fal/AuraEquiVAE. Give it several times to compare checkpoints."
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        help="The folder to write evaluation.json, a figure, and the originals and "
        "reconstructions as PNG files to.",
        show_default="none: only print",
    ),
]
Size = Annotated[int, typer.Option(help=SQUARE)]
Flips = Annotated[bool, typer.Option("--flips", help="Measure decoded flips of latents too.")]
Storage = Annotated[
    bool,
    typer.Option(
        "--storage",
        help="Measure latents as a cache stores them too: in bfloat16, float32 and int8.",
    ),
]
Equivariant = Annotated[
    bool,
    typer.Option(
        "--equivariant",
        help="Measure each model averaged over the flips too, which takes four times as long.",
    ),
]
Perceptual = Annotated[
    Path | None,
    typer.Option(
        help="File of VGG16 and LPIPS weights that `python -m convert.perceptual` wrote.",
        show_default="none: no LPIPS",
    ),
]

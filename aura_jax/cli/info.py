"""The command aura-jax info: describe a checkpoint."""

import dataclasses
from typing import Annotated

import typer
from rich.filesize import decimal

from aura_jax.cli.options import Json
from aura_jax.cli.run import report
from aura_jax.cli.start import importing


def info(
    checkpoint: Annotated[
        str,
        typer.Argument(
            help="The checkpoint: small (comes with the package), a file, or a Hugging Face id."
        ),
    ],
    as_json: Json = False,
) -> None:
    """Describe a checkpoint: its size, layout, dtypes, config and number of parameters.

    The names and shapes of its tensors are checked; their values are not read.
    """
    with importing():
        from aura_jax.checkpoint.describe import summarize
        from aura_jax.checkpoint.hub import find_checkpoint
        from aura_jax.checkpoint.tensors import open_safetensors
    path = find_checkpoint(checkpoint)
    summary, size = summarize(open_safetensors(path)), path.stat().st_size
    results = {"path": str(path), "bytes": size, **dataclasses.asdict(summary)}
    report(results, [f"{path} ({decimal(size)})", str(summary)], as_json=as_json)

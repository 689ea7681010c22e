"""Options that several commands have."""

from typing import Annotated

import typer

DEFAULT_WEIGHTS = "small"

Weights = Annotated[
    str, typer.Option(help="small (comes with the package), a checkpoint file, or a hub id.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace output that exists.")]
Json = Annotated[bool, typer.Option("--json", help="Print results as JSON.")]

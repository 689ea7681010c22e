"""The command aura-jax and its subcommands."""

from typing import Annotated

import typer

from aura_jax import __version__
from aura_jax.cli.cache import cache
from aura_jax.cli.demo import demo
from aura_jax.cli.equivariance import equivariance
from aura_jax.cli.evaluate import evaluate
from aura_jax.cli.export import export
from aura_jax.cli.images import decode, encode, flip
from aura_jax.cli.info import info
from aura_jax.cli.reconstruct import reconstruct
from aura_jax.cli.run import new_app, run
from aura_jax.cli.train import train

EXAMPLES = {
    reconstruct: "aura-jax reconstruct photo.jpg --out grid.png --size 256",
    encode: "aura-jax encode a.jpg photos/ --out z.safetensors",
    decode: "aura-jax decode z.safetensors --out images/",
    flip: "aura-jax flip z.safetensors -h -v --out flipped.safetensors",
    info: "aura-jax info fal/AuraEquiVAE --json",
    evaluate: "aura-jax evaluate photos/ --flips --out report/",
    demo: "aura-jax demo --weights small --weights runs/small --open",
    equivariance: "aura-jax equivariance photos/ --out report/",
    export: "aura-jax export --weights small --size 256 --platform cuda --out exported/",
    train: "aura-jax train --data photos/ --config small --out runs/small",
}

app = new_app(no_args_is_help=True)


def main() -> None:
    """Run the command aura-jax; its entry point is `aura_jax.cli.start.main`."""
    run(app)


def _print_version(wanted: bool) -> bool:
    if wanted:
        print(f"aura-jax {__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def describe(
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_print_version, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Encode images to latents that can be flipped like the images, and decode them."""


for command, example in EXAMPLES.items():
    # `flip` uses -h for --horizontal.
    settings = {"help_option_names": ["--help"]} if command is flip else {}
    app.command(epilog=f"Example: {example}", context_settings=settings)(command)
app.add_typer(cache, name="cache")

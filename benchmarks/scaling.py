"""The command python -m benchmarks.scaling: plot time and memory by image and batch size."""

from itertools import product
from pathlib import Path
from typing import Annotated

import jax
import jax.numpy as jnp
import typer

import aura_jax
from aura_jax import Codec
from aura_jax.cli.options import Overwrite
from aura_jax.cli.run import new_app, run
from aura_jax.console import messages, say
from aura_jax.extras import needs
from aura_jax.files import check_free, replacing
from benchmarks.flops import PARTS, Part
from benchmarks.workers.calls import planned_bytes
from benchmarks.workers.server import repeat

SIZES, BATCHES = (64, 128, 256, 512), (1, 2, 4, 8)

app = new_app(add_completion=False)


@app.command(epilog="Example: python -m benchmarks.scaling --out scaling.png")
def main(
    out: Annotated[Path, typer.Option(help="PNG file to write.")],
    size: Annotated[
        list[int] | None,
        typer.Option(
            help="Side of the images in pixels; may be given several times. By default "
            f"{', '.join(map(str, SIZES))}."
        ),
    ] = None,
    batch: Annotated[
        list[int] | None,
        typer.Option(
            help="Number of images in a batch; may be given several times. By default "
            f"{', '.join(map(str, BATCHES))}."
        ),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Plot time and memory per megapixel against the sizes of images and batches.

    A flat line means that the cost is proportional to the number of pixels. The
    model is the checkpoint that comes with the package, and the device is JAX's
    default. Memory is XLA's plan, without the weights.
    """
    with needs("report"):
        from benchmarks.scaling_figure import draw
    check_free(out, overwrite=overwrite)
    codec = Codec(aura_jax.load("small"))
    seconds, megabytes = {}, {}
    for part, images in product(PARTS, batch or BATCHES):
        messages.print(f"measuring {part}, batches of {images}")
        curve = {side: _measure(codec, part, images, side) for side in size or SIZES}
        seconds[part, images] = {side: point[0] for side, point in curve.items()}
        megabytes[part, images] = {side: point[1] for side, point in curve.items()}
    title = f"{jax.devices()[0].device_kind}, {codec.dtype}, ch={codec.config.ch}"
    with replacing(out) as path:
        path.write_bytes(draw(title, seconds, megabytes))
    say(f"wrote {out}")


def _measure(codec: Codec, part: Part, images: int, side: int) -> tuple[float, float]:
    """Return seconds and planned megabytes per megapixel."""
    x, megapixels = _input(codec, part, images, side), images * side**2 / 1e6

    def call() -> None:
        getattr(codec, part)(x).block_until_ready()

    call()  # compiles
    compiled = codec._programs[part].compile(x.shape)
    return min(repeat(call)) / megapixels, planned_bytes(compiled) / 1e6 / megapixels


def _input(codec: Codec, part: Part, images: int, side: int) -> jax.Array:
    config = codec.config
    if part == "encode":
        return jnp.zeros((images, side, side, config.in_channels))
    side //= config.downsampling
    return jnp.zeros((images, side, side, config.z_channels), codec.dtype)


if __name__ == "__main__":
    run(app)

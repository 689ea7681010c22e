"""How time and memory grow with the size of images and of batches: both for each megapixel.

    python -m benchmarks.scaling --out scaling.png

Flat lines mean that they grow with the number of pixels alone. The model is the checkpoint that
comes with the package; memory is what XLA plans beyond the weights.
"""

from itertools import product
from pathlib import Path
from typing import Annotated

import jax
import jax.numpy as jnp
import typer

import aura_jax
from aura_jax import Codec
from aura_jax.cli.options import Overwrite
from aura_jax.cli.run import run
from aura_jax.console import messages, say
from aura_jax.extras import needs
from aura_jax.files import check_free, replacing
from benchmarks.flops import PARTS, Part
from benchmarks.workers.server import repeat

SIZES, BATCHES = (64, 128, 256, 512), (1, 2, 4, 8)

app = typer.Typer(add_completion=False)


@app.command()
def main(
    out: Annotated[Path, typer.Option(help="The PNG to write.")],
    size: Annotated[list[int] | None, typer.Option(help="Pixels a side; may be repeated.")] = None,
    batch: Annotated[list[int] | None, typer.Option(help="Images; may be repeated.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Measure on the default device, and draw a plot."""
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
    """Seconds and planned megabytes for each megapixel."""
    x, megapixels = _input(codec, part, images, side), images * side**2 / 1e6

    def call() -> None:
        getattr(codec, part)(x).block_until_ready()

    call()  # compiles
    return min(repeat(call)) / megapixels, planned_bytes(codec, part, x) / 1e6 / megapixels


def planned_bytes(codec: Codec, part: Part, x: jax.Array) -> int:
    """Bytes that XLA plans for what layers hand on, and for the result."""
    program = codec._encoder if part == "encode" else codec._decoder
    plan = program.compile(x.shape).memory_analysis()
    assert plan is not None, "this device's compiler does not say"
    return plan.temp_size_in_bytes + plan.output_size_in_bytes


def _input(codec: Codec, part: Part, images: int, side: int) -> jax.Array:
    config = codec.config
    if part == "encode":
        return jnp.zeros((images, side, side, config.in_channels))
    side //= config.downsampling
    return jnp.zeros((images, side, side, config.z_channels), codec.dtype)


if __name__ == "__main__":
    run(app)

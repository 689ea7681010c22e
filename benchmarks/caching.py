"""How much of the encoder's own speed `aura-jax cache` keeps: reading, decoding, writing and all.

    python -m benchmarks.caching

Both take turns in one process, on JPEG pictures of 500 × 375 pixels (ImageNet's usual size) that
are made for it: a batch through the executable alone, and a shard through the whole pipeline.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import jax
import numpy as np
import typer
from PIL import Image

from aura_jax.cli.options import DEFAULT_WEIGHTS, Weights
from aura_jax.cli.run import run
from aura_jax.console import say
from aura_jax.latents.encode_shard import Encoder, Plan, encode_slice
from aura_jax.latents.examples import Slice, find_slices
from benchmarks.workers.server import seconds_of

PHOTO = Path(__file__).parent.parent / "examples" / "chelsea.jpg"
WIDTH, HEIGHT = 500, 375

app = typer.Typer(add_completion=False)


@app.command()
def main(
    weights: Weights = DEFAULT_WEIGHTS,
    size: Annotated[int, typer.Option(help="Pixels a side that the model sees.")] = 256,
    batch: Annotated[int, typer.Option(min=1)] = 8,
    pictures: Annotated[int, typer.Option(min=1, help="In a shard.")] = 128,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each.")] = 5,
) -> None:
    """Print images a second of both, and their ratio: medians over the rounds."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "photos"
        _write(source, pictures)
        (part,) = find_slices([source], pictures)
        plan = Plan(
            out=Path(folder),
            weights=weights,
            compute="float32" if jax.default_backend() == "cpu" else "bf16",
            size=(size, size),
            resize=True,
            dtype="bf16",
            format="arrayrecord",
            batch=batch,
            max_bad=0,
        )
        alone, whole = _measured(plan, part, rounds)
    say(f"encoder alone: {alone:.2f} images/s")
    say(f"whole pipeline: {whole:.2f} images/s, {whole / alone:.1%} of it")


def _measured(plan: Plan, part: Slice, rounds: int) -> tuple[float, float]:
    """Images a second of the encoder alone and of the pipeline."""
    encoder, count = Encoder(plan), len(part.pictures)
    images = np.zeros((plan.batch, *plan.size, 3), np.uint8)

    def alone() -> None:
        for _ in range(count // plan.batch):
            encoder(images).block_until_ready()

    def whole() -> None:
        encode_slice(part, plan, encoder, left_out={}, progress=lambda _: None)

    encoder(images).block_until_ready()  # compiles
    seconds = [(seconds_of(alone), seconds_of(whole)) for _ in range(rounds)]
    return _rate(count // plan.batch * plan.batch, [a for a, _ in seconds]), _rate(
        count, [w for _, w in seconds]
    )


def _rate(count: int, seconds: Sequence[float]) -> float:
    return count / float(np.median(seconds))


def _write(folder: Path, count: int) -> None:
    """Pieces of a photograph, scaled to one size."""
    folder.mkdir()
    photo, rng = Image.open(PHOTO), np.random.default_rng(0)
    for i in range(count):
        scale = rng.uniform(0.5, 1)
        left, top = (int(rng.uniform(0, side * (1 - scale))) for side in photo.size)
        box = (left, top, left + int(photo.width * scale), top + int(photo.height * scale))
        photo.resize((WIDTH, HEIGHT), box=box).save(folder / f"{i:05}.jpg", quality=90)


if __name__ == "__main__":
    run(app)

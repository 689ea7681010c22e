"""The command python -m benchmarks.caching: compare the cache pipeline with the encoder alone.

Both alternate in one process, on generated JPEG images of 500 × 375 pixels (ImageNet's usual size):
batches through the executable alone, and a shard through the whole pipeline.
"""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import jax
import numpy as np
import typer
from PIL import Image

from aura_jax.cli.options import DEFAULT_WEIGHTS, Weights
from aura_jax.cli.run import new_app, run
from aura_jax.console import say
from aura_jax.latents import build
from aura_jax.latents.encode_shard import Work, encode_shard
from aura_jax.latents.encoder import Encoder
from aura_jax.latents.examples import ShardInput
from aura_jax.latents.executors import Executor
from aura_jax.latents.ledger import Ledger
from benchmarks.workers.server import seconds_of

PHOTO = Path(__file__).parent.parent / "examples" / "chelsea.jpg"
WIDTH, HEIGHT = 500, 375

app = new_app(add_completion=False)


@app.command(epilog="Example: python -m benchmarks.caching --images 64 --rounds 3")
def main(
    weights: Weights = DEFAULT_WEIGHTS,
    size: Annotated[int, typer.Option(help="Side of the images in pixels.")] = 256,
    batch: Annotated[
        int, typer.Option(min=1, help="Number of images that are encoded at once.")
    ] = 8,
    images: Annotated[int, typer.Option(min=1, help="Number of images in the shard.")] = 128,
    rounds: Annotated[int, typer.Option(min=1, help="Number of measurements of each.")] = 5,
) -> None:
    """Compare the speed of the whole cache pipeline with the encoder alone.

    It prints images per second of both and their ratio, as medians over the rounds.
    """
    timed = _Timed(rounds)
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "photos", Path(folder) / "latents"
        _write(source, images)
        build.make(
            [source],
            out,
            weights=weights,
            size=size,
            batch=batch,
            per_shard=images,
            executor=lambda: timed,
        )
    alone, whole = timed.rates
    say(f"encoder alone: {alone:.2f} images/s")
    say(f"whole pipeline: {whole:.2f} images/s, {whole / alone:.1%} of the encoder alone")


class _Timed(Executor):
    """An executor that encodes one shard repeatedly, in alternation with the encoder alone.

    Attributes:
        rates: images per second of the encoder alone, and of the pipeline.
    """

    def __init__(self, rounds: int):
        self._rounds, self.platform, self.rates = rounds, jax.default_backend(), (0.0, 0.0)

    def run(self, shards: Sequence[ShardInput], work: Work, ledger: Ledger) -> None:
        (shard,) = shards
        encode, count = Encoder(work.spec, work.weights, work.batch), len(shard.examples)
        images = np.zeros((work.batch, *work.spec.image_sizes[0], 3), np.uint8)

        def alone() -> None:
            for _ in range(count // work.batch):
                encode(images).block_until_ready()

        def whole() -> None:
            threads = os.cpu_count() or 1
            encode_shard(shard, work, encode, threads=threads, skipped={}, progress=lambda _: None)

        seconds = [(seconds_of(alone), seconds_of(whole)) for _ in range(self._rounds)]
        self.rates = (
            _rate(count // work.batch * work.batch, [a for a, _ in seconds]),
            _rate(count, [w for _, w in seconds]),
        )


def _rate(count: int, seconds: Sequence[float]) -> float:
    return count / float(np.median(seconds))


def _write(folder: Path, count: int) -> None:
    """Write pieces of a photograph, scaled to one size."""
    folder.mkdir()
    photo, rng = Image.open(PHOTO), np.random.default_rng(0)
    for i in range(count):
        scale = rng.uniform(0.5, 1)
        left, top = (int(rng.uniform(0, side * (1 - scale))) for side in photo.size)
        box = (left, top, left + int(photo.width * scale), top + int(photo.height * scale))
        photo.resize((WIDTH, HEIGHT), box=box).save(folder / f"{i:05}.jpg", quality=90)


if __name__ == "__main__":
    run(app)

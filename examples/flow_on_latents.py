"""Train a small flow-matching model on cached latents that flip for free, and sample from it.

    python examples/flow_on_latents.py --out flow

It draws balls, blocks and cones, all lit from the left; caches and measures their latents with
`aura-jax cache`; trains a network while Grain flips the latents at random; samples; and decodes.
This takes some minutes on a CPU. About half of the samples are lit from the right, as no image is.

It needs `pip install "aura-jax[cache,train]"`.
"""

import argparse
import colorsys
import subprocess
import sys
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import grain
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from PIL import Image, ImageDraw

import aura_jax
from aura_jax.latents import LatentSource, RandomFlip, denormalize, normalize

KINDS = ("ball", "block", "cone")
SIDE, LATENT = 64, (8, 8, 16)  # of an image in pixels, and the shape of its latent
WIDTH, DEPTH = 96, 6  # of the network
BATCH, RATE = 32, 3e-3
EULER_STEPS, SHOWN = 50, 8
GAP, TITLE, LABEL = 8, 30, 22  # of the figure, in pixels


def main() -> None:
    """Read the arguments, and do all steps from images to samples."""
    parser = argparse.ArgumentParser(description="Flow matching on cached latents.")
    parser.add_argument(
        "--out", type=Path, default=Path("flow"), help="folder to write; by default flow"
    )
    parser.add_argument(
        "--images", type=int, default=160, help="number of each of the three kinds; by default 160"
    )
    parser.add_argument(
        "--steps", type=int, default=2000, help="number of training steps; by default 2000"
    )
    args = parser.parse_args()
    if args.out.exists():
        parser.error(f"{args.out} exists already; give another --out")
    if min(args.images, args.steps) < 1:
        parser.error("--images and --steps: expected 1 or more")
    images, latents = args.out / "images", args.out / "latents"
    draw_images(images, args.images)
    aura("cache", "make", images, "--out", latents, "--size", SIDE)
    aura("cache", "stats", latents)
    source = LatentSource(latents)
    model = train(source, args.steps)
    comparison(images, source, model).save(args.out / "samples.png")
    print(f"wrote {args.out / 'samples.png'}")


def draw_images(folder: Path, count: int) -> None:
    """Write `count` images of each kind, in a folder whose name becomes their label."""
    rng = np.random.default_rng(0)
    for kind in KINDS:
        (folder / kind).mkdir(parents=True)
        for i in range(count):
            levels = (255 * draw(kind, rng)).round().astype(np.uint8)
            Image.fromarray(levels).save(folder / kind / f"{i:04}.png")


def draw(kind: str, rng: np.random.Generator) -> np.ndarray:
    """Draw a shape of random place, size and color, lit from the left: [64, 64, 3] in [0, 1]."""
    color, pale = colorsys.hsv_to_rgb(rng.random(), 0.85, 0.85), rng.uniform(0.83, 0.93, 3)
    radius, x, y = SIDE * rng.uniform((0.22, 0.36, 0.36), (0.31, 0.56, 0.58))
    rows, columns = np.mgrid[: 4 * SIDE, : 4 * SIDE] / 4  # four by four points a pixel
    u, v = (columns - x) / radius, (rows - y) / radius
    half_width = {"ball": np.sqrt((1 - v**2).clip(0)), "block": 0.85, "cone": (1 + v) / 2}[kind]
    inside = (abs(v) < 1) & (abs(u) < half_width)
    right = np.where(u < 0.2, -0.7, 0.75) if kind == "block" else u / np.maximum(half_width, 1e-6)
    right = right.clip(-1, 1)  # how far its surface faces right; the rest faces the viewer
    light = 0.25 + 0.75 * (0.55 * np.sqrt(1 - right**2) - 0.83 * right).clip(0)
    shadow = 0.55 * np.exp(-((((u - 0.75) / 1.1) ** 2 + ((v - 1) / 0.22) ** 2) ** 2))
    ground = (1 - shadow) * (0.85 + 0.15 * rows / SIDE)
    points = np.where(inside, np.multiply.outer(color, light), np.multiply.outer(pale, ground))
    return points.reshape(3, SIDE, 4, SIDE, 4).mean((2, 4)).transpose(1, 2, 0)


def aura(*words: object) -> None:
    """Run the command aura-jax."""
    print("$ aura-jax", *words, flush=True)
    subprocess.run([sys.executable, "-m", "aura_jax", *map(str, words)], check=True)


def key(seed: int) -> jax.Array:
    """Make a key for a generator that compiles ten times as fast on a CPU as JAX's default."""
    return jax.random.key(seed, impl="rbg")


def batches(source: LatentSource) -> Iterable[dict[str, Any]]:
    """Make endless batches of normalized latents, flipped at random, and their class numbers."""

    def prepared(sample: dict[str, Any]) -> dict[str, Any]:
        z = normalize(sample["latent"], source.statistics)
        return {"z": z, "label": source.classes.index(sample["label"])}

    shuffled = grain.MapDataset.source(source).seed(0).shuffle().repeat()
    flipped = shuffled.random_map(RandomFlip(p_horizontal=0.5))
    few_ahead = grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)  # instead of 500 batches
    return flipped.map(prepared).batch(BATCH).to_iter_dataset(few_ahead)


class Block(nnx.Module):
    """x + conv(silu(conv(scale · norm(x) + shift))), modulated by a condition and x's mean."""

    def __init__(self, *, rngs: nnx.Rngs):
        zeros = nnx.initializers.zeros  # so that a block begins as the identity
        self.norm = nnx.LayerNorm(WIDTH, use_scale=False, use_bias=False, rngs=rngs)
        self.modulation = nnx.Linear(WIDTH, 2 * WIDTH, kernel_init=zeros, rngs=rngs)
        self.conv1 = nnx.Conv(WIDTH, WIDTH, (3, 3), rngs=rngs)
        self.conv2 = nnx.Conv(WIDTH, WIDTH, (3, 3), kernel_init=zeros, rngs=rngs)

    def __call__(self, x: jax.Array, condition: jax.Array) -> jax.Array:
        """Apply the block to x [B, 8, 8, WIDTH], under a condition [B, WIDTH]."""
        modulation = self.modulation(nnx.silu(condition + x.mean((1, 2))))
        scale, shift = jnp.split(modulation[:, None, None], 2, axis=-1)
        return x + self.conv2(nnx.silu(self.conv1(self.norm(x) * (1 + scale) + shift)))


class Velocity(nnx.Module):
    """The velocity of a noisy latent on its way from noise, at time 0, to a latent, at time 1."""

    def __init__(self, classes: int, *, rngs: nnx.Rngs):
        self.conv_in = nnx.Conv(LATENT[-1], WIDTH, (3, 3), rngs=rngs)
        self.label = nnx.Embed(classes, WIDTH, rngs=rngs)
        self.time = nnx.Linear(16, WIDTH, rngs=rngs)
        self.blocks = nnx.List([Block(rngs=rngs) for _ in range(DEPTH)])
        self.norm = nnx.LayerNorm(WIDTH, rngs=rngs)
        self.out = nnx.Linear(WIDTH, LATENT[-1], kernel_init=nnx.initializers.zeros, rngs=rngs)

    def __call__(self, z: jax.Array, t: jax.Array, label: jax.Array) -> jax.Array:
        """Compute velocities [B, 8, 8, 16] at latents z, times [B] and class numbers [B]."""
        angles = t[:, None] * np.pi / 2 * 2.0 ** np.arange(8)
        waves = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)
        condition, x = self.time(waves) + self.label(label), self.conv_in(z)
        for block in self.blocks:
            x = block(x, condition)
        return self.out(self.norm(x))


def train(source: LatentSource, steps: int) -> Velocity:
    """Train a model, and print the mean loss ten times."""
    rate = optax.warmup_cosine_decay_schedule(0, RATE, steps // 10, steps)

    @nnx.jit  # one program, instead of one for each layer's initialization
    def start() -> tuple[Velocity, nnx.Optimizer]:
        model = Velocity(len(source.classes), rngs=nnx.Rngs(key(0)))
        return model, nnx.Optimizer(model, optax.adamw(rate, b2=0.99), wrt=nnx.Param)

    (model, optimizer), rngs, losses = start(), nnx.Rngs(key(1)), []
    for step, batch in enumerate(islice(batches(source), steps), 1):
        losses.append(train_step(model, optimizer, batch["z"], batch["label"], rngs()))
        if step % max(1, steps // 10) == 0:
            print(f"step {step}: loss {np.mean(losses):.3f}", flush=True)
            losses.clear()
    return model


@nnx.jit
def train_step(model: Velocity, optimizer: nnx.Optimizer, z: Any, label: Any, key: Any) -> Any:
    """Take one step of flow matching: learn the velocity of the straight line to each latent."""
    noise_key, time_key = jax.random.split(key)
    noise = jax.random.normal(noise_key, z.shape)
    t = nnx.sigmoid(jax.random.normal(time_key, z.shape[:1]) - 0.5)  # more often near the noise
    between = noise + t[:, None, None, None] * (z - noise)

    def loss(model: Velocity) -> jax.Array:
        return jnp.square(model(between, t, label) - (z - noise)).mean()

    value, gradient = nnx.value_and_grad(loss)(model)
    optimizer.update(model, gradient)
    return value


@nnx.jit
def euler_step(model: Velocity, z: jax.Array, t: float, label: jax.Array) -> jax.Array:
    """Compute the latents one step after time t."""
    return z + model(z, jnp.full(len(z), t), label) / EULER_STEPS


def sample(model: Velocity, number: int) -> jax.Array:
    """Sample normalized latents of the class of this number, by Euler's method from noise."""
    z = jax.random.normal(key(number), (SHOWN, *LATENT))
    for step in range(EULER_STEPS):
        z = euler_step(model, z, step / EULER_STEPS, jnp.full(SHOWN, number))
    return z


def comparison(images: Path, source: LatentSource, model: Velocity) -> Image.Image:
    """Draw a figure with a row for each class: images that were cached, and samples."""
    codec, width = aura_jax.Codec(aura_jax.load("small")), SHOWN * SIDE + GAP
    size = 2 * width + GAP, TITLE + len(source.classes) * (LABEL + SIDE + GAP)
    figure = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(figure)
    draw.text((GAP, GAP), "Images are lit from the left; latents flip while training", "black")
    for number, name in enumerate(source.classes):
        z = denormalize(sample(model, number), source.statistics)
        samples = np.asarray(codec.decode(z.clip(-8, 8), as_uint8=True))
        paths = sorted((images / name).iterdir())[:SHOWN]
        drawn = [np.asarray(Image.open(path)) for path in paths]
        top = TITLE + number * (LABEL + SIDE + GAP)
        for left, label, row in ((GAP, "images", drawn), (GAP + width, "samples", [*samples])):
            draw.text((left, top), f"{name}: {label}", "black")
            figure.paste(Image.fromarray(np.hstack(row)), (left, top + LABEL))
    return figure


if __name__ == "__main__":
    main()

"""Time train steps on random crops, without a data set."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import aura_jax
from aura_jax.training.config import PLAIN_LOSSES, Crops, Recipe
from aura_jax.training.step import Trainer
from benchmarks.workers.server import seconds_of

STEPS = 5


def train_seconds(weights: str, dtype: str, size: int, batch: int) -> dict[str, Any]:
    """Return the seconds of the first step, which compiles, those of later ones, and the last loss.

    Args:
        weights: the checkpoint to train, as `aura_jax.load` takes it.
        dtype: the dtype to compute in; parameters are float32.
        size: the side of the crops in pixels.
        batch: their number in a step.
    """
    recipe = Recipe(steps=STEPS + 1, crops=(Crops(size, batch),), losses=PLAIN_LOSSES, dtype=dtype)
    trainer = Trainer(recipe, aura_jax.load(weights, dtype=dtype, param_dtype=jnp.float32))
    crops = np.random.default_rng(0).integers(0, 256, (batch, size, size, 3), np.uint8)
    state, loss = trainer.start(), 0.0

    def step() -> None:
        nonlocal state, loss
        state, metrics = trainer.step(state, crops, jax.random.key(0))
        loss = float(metrics["loss"])  # waits

    first, *later = [seconds_of(step) for _ in range(STEPS + 1)]
    return {"first_seconds": first, "seconds": later, "minimum_seconds": min(later), "loss": loss}

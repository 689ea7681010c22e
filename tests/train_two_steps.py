"""python -m tests.train_two_steps OUT [COORDINATOR]: steps on all devices of all processes."""

import sys
from typing import Any

import jax
import numpy as np
import optax
from flax import nnx

from aura_jax import AuraEquiVAE
from aura_jax.training.config import Crops, Recipe
from aura_jax.training.run import join
from aura_jax.training.step import Trainer
from tests.conftest import TINY_CONFIG
from tests.photo_folder import random_crops

BATCH = 8
PLAIN = (("l1", 0.2), ("l2", 1.0), ("z2", 1e-3))


def main(out: str, coordinator: str | None = None) -> None:
    """Writes the losses of two steps, the gradient of the first, and how many devices took part."""
    if coordinator:
        join(coordinator)
    recipe = Recipe(steps=9, crops=(Crops(16, BATCH),), losses=PLAIN, dtype="f32", accumulate=1)
    trainer = Trainer(recipe, AuraEquiVAE(TINY_CONFIG, rngs=nnx.Rngs(0)))
    state, share = trainer.start(), BATCH // jax.process_count()
    own = slice(jax.process_index() * share, (jax.process_index() + 1) * share)
    losses: list[float] = []
    gradient: dict[str, Any] = {}
    for step in range(2):
        images = random_crops(step, batch=BATCH)[own]
        state, metrics = trainer.step(state, images, jax.random.key(step))
        losses.append(float(metrics["loss"]))
        if step == 0:  # after one step the first moment is the gradient, times 1 - 0.9
            found = optax.tree.get_all_with_path(state.optimizer, "mu")
            moments = jax.tree.leaves([moment for _, moment in found])
            gradient = {f"gradient_{i}": np.asarray(moment) for i, moment in enumerate(moments)}
    if jax.process_index() == 0:
        np.savez(out, losses=losses, devices=jax.device_count(), **gradient)


if __name__ == "__main__":
    main(*sys.argv[1:])

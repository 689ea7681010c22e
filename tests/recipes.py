"""A recipe for tests, its variations, and how far apart weights are."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from aura_jax.training.config import Crops, Recipe

CROPS = (Crops(16, 4),)
PLAIN = Recipe(
    steps=100,
    crops=CROPS,
    losses=(("l1", 0.2), ("l2", 1.0), ("z2", 1e-3)),
    gradnorm="none",
    dtype="f32",
    learning_rate=2**-4,
    warmup=0,
)
KEY = jax.random.key(3)


def with_(**changes: Any) -> Recipe:
    return dataclasses.replace(PLAIN, **changes)


def furthest(a: Any, b: Any) -> float:
    """The largest relative difference of a weight's values."""
    errors = jax.tree.map(
        lambda x, y: jnp.linalg.norm((x - y).ravel()) / (jnp.linalg.norm(y.ravel()) + 1e-3), a, b
    )
    return float(max(jax.tree.leaves(errors)))

"""A recipe for tests, its variations, and the distance of parameters."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aura_jax import AuraConfig
from aura_jax.training.config import Crops, Recipe

# The model whose train step compiles fastest. Every test that needs some train step takes this one
# and PLAIN: a step of another size, recipe or length is another program, and 10 s of compilation.
ONE_LEVEL = AuraConfig(ch=64, ch_mult=(1,), num_res_blocks=1)
CROPS = (Crops(8, 8),)
# PLAIN as options, so that the command runs the same program.
OPTIONS = ("--steps", "20", "--crops", "8x8", "--compute-dtype", "f32", "--gradnorm", "none")
OPTIONS += ("--loss", "l1=0.2", "--loss", "l2=1", "--loss", "z2=1e-3", "--learning-rate", "0.0625")
PLAIN = Recipe(
    steps=20,
    crops=CROPS,
    losses=(("l1", 0.2), ("l2", 1.0), ("z2", 1e-3)),
    gradnorm="none",
    dtype="float32",
    learning_rate=2**-4,
)


def with_(**changes: Any) -> Recipe:
    """Return the recipe with some fields changed."""
    return dataclasses.replace(PLAIN, **changes)


def furthest(a: Any, b: Any) -> float:
    """Return the largest relative difference between corresponding arrays."""

    def distance(x: Any, y: Any) -> float:  # JAX would compile a norm for every shape
        x, y = np.asarray(x).ravel(), np.asarray(y).ravel()
        return float(np.linalg.norm(x - y) / (np.linalg.norm(y) + 1e-3))

    return max(jax.tree.leaves(jax.tree.map(distance, a, b)))


def disturb(params: Any) -> Any:
    """Add noise to parameters, so that they have no symmetry."""
    rng = np.random.default_rng(0)

    def disturbed(x: jax.Array) -> jax.Array:  # JAX would compile a sum for every shape
        noise = rng.standard_normal(x.shape, np.float32)
        return jnp.asarray(np.asarray(x) + np.float32(0.1) * noise)

    return jax.tree.map(disturbed, params)

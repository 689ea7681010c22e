"""Let XLA partition a function over a mesh, instead of rules for each operation."""

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import AxisType
from jaxtyping import Array


def on_auto_axes(
    function: Callable[[Any, Array], Array],
) -> Callable[[Any, Array], Array]:
    """Let XLA partition a function of weights and an array, on a mesh of either kind of axes.

    With explicit axes, the kind that `jax.make_mesh` makes by default since JAX 0.9, each operation
    needs a rule for its sharding, and some of the model's have none. The result has the array's
    sharding.
    """

    def run(weights: Any, x: Array) -> Array:
        sharding = jax.typeof(x).sharding
        if AxisType.Explicit not in sharding.mesh.axis_types:
            return function(weights, x)
        return jax.sharding.auto_axes(out_sharding=sharding)(function)(weights, x)

    return run

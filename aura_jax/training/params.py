"""Modules as what is fixed, their structure, and what is trained, their weights by name."""

import dataclasses
from typing import Any

from flax import nnx
from jaxtyping import Array

from aura_jax.model.parameters import dotted

type Weights = dict[str, Array]


@dataclasses.dataclass(frozen=True)
class Structure[M: nnx.Module]:
    """A module without its weights."""

    graph: nnx.GraphDef[M]
    paths: tuple[tuple[Any, ...], ...]

    def assemble(self, weights: Weights) -> M:
        """The module with these weights."""
        params = [(path, nnx.Param(weights[dotted(path)])) for path in self.paths]
        return nnx.merge(self.graph, nnx.from_flat_state(params))


def take_apart[M: nnx.Module](module: M) -> tuple[Structure[M], Weights]:
    """A module's structure and its weights by dotted name, which may change freely."""
    graph, state = nnx.split(module)
    flat = nnx.to_flat_state(state)
    return (
        Structure(graph, tuple(path for path, _ in flat)),
        {dotted(path): param.get_value() for path, param in flat},
    )

"""Split modules into a static graph and a flat dictionary of parameters."""

import dataclasses
from typing import Any

from flax import nnx
from jaxtyping import Array

from aura_jax.model.parameters import dotted

type Params = dict[str, Array]


@dataclasses.dataclass(frozen=True)
class ModuleGraph[M: nnx.Module]:
    """A module without its parameters.

    Attributes:
        graphdef: the structure, as `nnx.split` gives it.
        paths: the path of every parameter in it.
    """

    graphdef: nnx.GraphDef[M]
    paths: tuple[tuple[Any, ...], ...]

    def merge(self, params: Params) -> M:
        """Build the module with these parameters."""
        state = [(path, nnx.Param(params[dotted(path)])) for path in self.paths]
        return nnx.merge(self.graphdef, nnx.from_flat_state(state))


def split[M: nnx.Module](module: M) -> tuple[ModuleGraph[M], Params]:
    """Split a module into its static graph and a flat dictionary of parameters.

    Parameters are named by their paths, such as decoder.conv_in.kernel.
    """
    graphdef, state = nnx.split(module)
    flat = nnx.to_flat_state(state)
    graph = ModuleGraph(graphdef, tuple(path for path, _ in flat))
    return graph, {dotted(path): param.get_value() for path, param in flat}

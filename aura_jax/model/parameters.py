"""Parameters of a module by dotted name, and modules that have shapes but no values yet."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from flax import nnx
from jaxtyping import Array

from aura_jax.arrays import Shape
from aura_jax.config import AuraConfig
from aura_jax.model.autoencoder import AuraEquiVAE


def dotted(path: tuple[Any, ...]) -> str:
    """Join the parts of a path into a name, such as encoder.down.0.block.0.conv1.kernel."""
    return ".".join(map(str, path))


def parameters(state: nnx.State) -> dict[str, nnx.Variable]:
    """Return the variables of a module's state by dotted name."""
    return {dotted(path): param for path, param in nnx.to_flat_state(state)}


def shapes_of(module: nnx.Module) -> dict[str, Shape]:
    """Return the shape of each parameter of a module by dotted name."""
    return {name: tuple(p.shape) for name, p in parameters(nnx.state(module)).items()}


def abstract[M: nnx.Module](build: Callable[[], M]) -> M:
    """Build a module whose parameters have shapes and dtypes but no values, without computing."""
    return nnx.eval_shape(build)


@functools.lru_cache(maxsize=8)
def blueprint(config: AuraConfig, dtype: np.dtype, param_dtype: np.dtype) -> AuraEquiVAE:
    """Return the abstract autoencoder of a config; it is cached, so callers must not change it."""
    return abstract(
        lambda: AuraEquiVAE(config, dtype=dtype, param_dtype=param_dtype, rngs=nnx.Rngs(0))
    )


def filled[M: nnx.Module](module: M, arrays: Mapping[str, Array]) -> M:
    """Return a copy of a module, abstract or not, that holds these arrays.

    Args:
        module: the structure.
        arrays: the value of every parameter by dotted name, in any dtype.
    """
    graph, state = nnx.split(module)
    params = [(path, nnx.Param(arrays[dotted(path)])) for path, _ in nnx.to_flat_state(state)]
    return nnx.merge(graph, nnx.from_flat_state(params))

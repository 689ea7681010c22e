"""Split a module into its graph and its parameters by name, and make one without values."""

import functools
import hashlib
from collections.abc import Mapping

import numpy as np
from flax import nnx
from jaxtyping import Array

from aura_jax.arrays import Shape
from aura_jax.config import AuraConfig
from aura_jax.model.autoencoder import AuraEquiVAE

type Params = dict[str, Array]  # by dotted name


def parameters(state: nnx.State) -> dict[str, nnx.Variable]:
    """Return the variables of a state by name, such as encoder.down.0.block.0.conv1.kernel."""
    return {".".join(map(str, path)): param for path, param in nnx.to_flat_state(state)}


def shapes_of(module: nnx.Module) -> dict[str, Shape]:
    """Return the shape of each parameter of a module by dotted name."""
    return {name: tuple(p.shape) for name, p in parameters(nnx.state(module)).items()}


def fingerprint(module: nnx.Module) -> str:
    """Compute the sha256 of a module's parameters, in hexadecimal.

    It depends on their names and values alone, which any float type up to float32 holds: a model
    has the same fingerprint in both layouts, in every file and after a cast that loses nothing.
    """
    digest = hashlib.sha256()
    for name, param in sorted(parameters(nnx.state(module, nnx.Param)).items()):
        digest.update(f"{name} {tuple(param.shape)}\n".encode())
        digest.update(np.ascontiguousarray(param[...], np.float32).data)
    return digest.hexdigest()


@functools.lru_cache(maxsize=8)
def blueprint(config: AuraConfig, dtype: np.dtype, param_dtype: np.dtype) -> AuraEquiVAE:
    """Return the autoencoder of a config without values, cached: callers must not change it."""
    return nnx.eval_shape(
        lambda: AuraEquiVAE(config, dtype=dtype, param_dtype=param_dtype, rngs=nnx.Rngs(0))
    )


def split[M: nnx.Module](module: M) -> tuple[nnx.GraphDef[M], Params]:
    """Split a module into its static graph and a flat dictionary of parameters."""
    graph, state = nnx.split(module)
    return graph, {name: param.get_value() for name, param in parameters(state).items()}


def merge[M: nnx.Module](graph: nnx.GraphDef[M], params: Mapping[str, Array]) -> M:
    """Build the module of a graph from all of its parameters, which may have any dtype."""
    state = [(_path(name), nnx.Param(value)) for name, value in params.items()]
    return nnx.merge(graph, nnx.from_flat_state(state))


def _path(name: str) -> tuple[str | int, ...]:
    return tuple(int(part) if part.isdecimal() else part for part in name.split("."))

"""Make modules with random weights from numpy, since Flax's initializers compile for a minute."""

import math

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from aura_jax import AuraConfig, AuraEquiVAE
from aura_jax.model.parameters import blueprint, merge, parameters
from aura_jax.training.networks.lpips import LPIPS, abstract_lpips


def random_vae(config: AuraConfig, param_dtype: DTypeLike = jnp.float32) -> AuraEquiVAE:
    """Make a float32 model whose weights have the distribution of Flax's initializers."""
    return _random(blueprint(config, np.dtype(np.float32), jnp.dtype(param_dtype)))


def random_lpips(dtype: DTypeLike = jnp.float32) -> LPIPS:
    """Make LPIPS with random convolutions and nonnegative heads."""
    return _random(abstract_lpips(dtype))


def _random[M: nnx.Module](module: M) -> M:
    rng, arrays = np.random.default_rng(0), {}
    for name, param in parameters(nnx.state(module)).items():
        values = np.full(param.shape, name.endswith("scale"), np.float32)
        if name.endswith("kernel"):
            values = rng.standard_normal(param.shape, np.float32)
            values /= math.sqrt(math.prod(param.shape[:-1]))
        arrays[name] = jnp.asarray(abs(values) if name.startswith("heads") else values, param.dtype)
    return merge(nnx.graphdef(module), arrays)

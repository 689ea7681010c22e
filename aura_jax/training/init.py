"""Make initial parameters from which an equivariant autoencoder learns fast.

- Kernels are made symmetric under the flips (see `aura_jax.training.symmetric`). The decoder is
  then equivariant before training, which remains free to change it.
- Residual branches start at 0 (De & Smith 2020), so the networks start as short chains.
- The last norm of a network divides by the contrast of the whole image. So that brightness and
  contrast are kept, half of the channels in each of its groups start with a bias of 1, half of -1.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from aura_jax.config import NORM_GROUPS, AuraConfig
from aura_jax.dtypes import FLOAT32
from aura_jax.model.autoencoder import AuraEquiVAE
from aura_jax.model.parameters import blueprint, merge, split
from aura_jax.training.symmetric import symmetric

BRANCH_ENDS = ("conv2.kernel", "proj_out.kernel")


def new_model(config: AuraConfig, dtype: np.dtype, seed: int) -> AuraEquiVAE:
    """Make a model with random float32 parameters, made symmetric by `starting_point`.

    Args:
        config: the sizes.
        dtype: the dtype that the model computes in.
        seed: the seed of the random parameters.
    """
    graph = nnx.graphdef(blueprint(config, dtype, FLOAT32))
    return nnx.merge(graph, _new_state(config, jax.random.key(seed)))


# One program for all parameters, with little optimization: it runs once, and XLA (jax 0.12) would
# take 20 s on a CPU to optimize the random bits of every parameter.
@partial(jax.jit, static_argnums=0, compiler_options={"xla_backend_optimization_level": 0})
def _new_state(config: AuraConfig, key: Array) -> nnx.State:
    return nnx.state(starting_point(AuraEquiVAE(config, rngs=nnx.Rngs(key))))


def starting_point(vae: AuraEquiVAE) -> AuraEquiVAE:
    """Make a randomly initialized model symmetric, as the start of training.

    The result has decoder(g·z) = g·decoder(z) up to rounding, and encoder(g·x) = g·encoder(x) up to
    the effects of the downsampling's asymmetric padding.
    """
    graph, params = split(vae)
    last_block = f"decoder.up.0.block.{vae.config.num_res_blocks}"
    references = {
        f"{block}.conv2.bias": _reference(width)
        for block, width in (
            ("encoder.mid.block_2", vae.config.widths[-1]),
            (last_block, vae.config.widths[0]),
        )
    }
    kernels = {
        name: jnp.zeros_like(kernel) if name.endswith(BRANCH_ENDS) else 2 * symmetric(name, kernel)
        for name, kernel in params.items()
        if kernel.ndim == 4
    }
    return merge(graph, params | kernels | references)


def _reference(width: int) -> Float[Array, " c"]:
    """Return alternating 1 and -1 within each group of the norm."""
    place = np.arange(width) % (width // NORM_GROUPS)
    return jnp.asarray(np.where(place % 2 == 0, 1, -1), jnp.float32)

"""Run the Flax model stage by stage, without PyTorch."""

from collections.abc import Mapping
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from aura_jax import AuraEquiVAE
from aura_jax.model.chains import Chain

type Part = Literal["encoder", "decoder"]
type Outputs = Mapping[str, np.ndarray]  # by stage, NHWC


def flax_outputs(vae: AuraEquiVAE, part: Part, x: np.ndarray) -> Outputs:
    """Compute the output of each stage of a network for x [B, H, W, C], at highest precision."""
    with jax.default_matmul_precision("highest"):
        outputs = _stage_outputs(getattr(vae, part), jnp.asarray(x))
    return {name: np.asarray(y) for name, y in outputs.items()}


@jax.jit
def _stage_outputs(network: Chain, x: Float[Array, "b h w c"]) -> dict[str, Array]:
    outputs = {}
    for name, stage in network.stages:
        x = outputs[name] = stage(x)
    return outputs

"""Make initial parameters from which an equivariant autoencoder learns fast.

- Kernels are made symmetric: a flip permutes the channels of every hidden layer, in quadruples (the
  regular representation of Z2 × Z2), which does not limit what the network can express. The decoder
  is then equivariant before training, which remains free to change it.
- Residual branches start at 0 (De & Smith 2020), so the networks start as short chains.
- The last norm of a network divides by the contrast of the whole image. So that brightness and
  contrast are kept, half of the channels in each of its groups start with a bias of 1, half of -1.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from aura_jax.config import NORM_GROUPS, AuraConfig
from aura_jax.dtypes import FLOAT32
from aura_jax.model.autoencoder import AuraEquiVAE
from aura_jax.model.parameters import blueprint, merge, split
from aura_jax.symmetry import HORIZONTAL_SIGNS, VERTICAL_SIGNS

# For each flip: the axis of a kernel that it reverses, the latent channels that it negates, and the
# bit that it changes in the number of a hidden channel's norm group.
ACTIONS = ((1, HORIZONTAL_SIGNS, 1), (0, VERTICAL_SIGNS, 2))
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
        name: jnp.zeros_like(kernel) if name.endswith(BRANCH_ENDS) else _symmetric(name, kernel)
        for name, kernel in params.items()
        if kernel.ndim == 4
    }
    return merge(graph, params | kernels | references)


def _reference(width: int) -> Float[Array, " c"]:
    """Return alternating 1 and -1 within each group of the norm."""
    place = np.arange(width) % (width // NORM_GROUPS)
    return jnp.asarray(np.where(place % 2 == 0, 1, -1), jnp.float32)


def _symmetric(name: str, kernel: Float[Array, "kh kw i o"]) -> Float[Array, "kh kw i o"]:
    for axis, signs, bit in ACTIONS:
        take_in, sign_in = _action(kernel.shape[2], _kind(name, "in"), signs, bit)
        take_out, sign_out = _action(kernel.shape[3], _kind(name, "out"), signs, bit)
        flipped = jnp.flip(kernel, axis)[:, :, take_in][..., take_out]
        sign = (sign_in[:, None] * sign_out)[None, None]
        kernel = (kernel + sign * flipped) / np.sqrt(2, dtype=np.float32)
    return kernel


def _kind(name: str, side: str) -> str:
    """Name the kind of the channels at one side of a convolution."""
    ends = {"encoder.conv_in": "image", "decoder.conv_in": "latent"}
    if side == "out":
        ends = {"encoder.conv_out": "latent", "decoder.conv_out": "image"}
    part = ends.get(name.removesuffix(".kernel"), "hidden")
    return "qkv" if side == "out" and ".qkv." in name else part


def _action(
    channels: int, kind: str, signs: slice, bit: int
) -> tuple[Int[np.ndarray, " c"], Float[np.ndarray, " c"]]:
    """Return the source channel and the sign of each channel under a flip."""
    here, sign = np.arange(channels), np.ones(channels, np.float32)
    if kind == "latent":
        sign[signs] = -1
    if kind in ("image", "latent"):
        return here, sign
    width = channels // 3 if kind == "qkv" else channels
    size = width // NORM_GROUPS  # whole groups change places, so the norm sees no difference
    group = (here % width) // size
    return here + ((group ^ bit) - group) * size, sign

"""Make parameters symmetric under the flips, so that a network commutes with them.

A flip reverses an axis of every kernel. On latents it also negates channels, and on hidden layers
it permutes them, in quadruples: the regular representation of Z2 × Z2, which does not limit what a
network can express. Parameters that are their own mirror images in this sense form a subspace, and
a decoder in it has decode(g·z) = g·decode(z) up to rounding.

An encoder in it is exact too but for its downsampling, which pads at the right and bottom alone: a
pixel of its output sees the pixels 2i, 2i + 1 and 2i + 2, and after a flip 2i - 1 instead of the
last. Only kernels whose last row and column are 0 commute with flips there.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from aura_jax.config import NORM_GROUPS
from aura_jax.model.parameters import Params
from aura_jax.symmetry import HORIZONTAL_SIGNS, VERTICAL_SIGNS

# For each flip: the axis of a kernel that it reverses, the latent channels that it negates, and the
# bit that it changes in the number of a hidden channel's norm group.
ACTIONS = ((1, HORIZONTAL_SIGNS, 1), (0, VERTICAL_SIGNS, 2))


def project(params: Params, network: str) -> Params:
    """Replace the parameters of a network by the nearest symmetric ones.

    Args:
        params: the parameters of an autoencoder by name.
        network: "encoder" or "decoder"; the parameters of the other stay as they are.
    """
    return {
        name: symmetric(name, param) if name.startswith(f"{network}.") else param
        for name, param in params.items()
    }


def symmetric(name: str, param: Float[Array, "..."]) -> Float[Array, "..."]:
    """Average a kernel, bias or scale over the flips: the orthogonal projection."""
    layer = name.rpartition(".")[0]
    for axis, signs, bit in ACTIONS:
        flipped = _acted(param, -1, _kind(layer, "out"), signs, bit)
        if param.ndim == 4:
            flipped = _acted(jnp.flip(flipped, axis), -2, _kind(layer, "in"), signs, bit)
        param = (param + flipped) / 2
    return param


def _acted(param: Array, axis: int, kind: str, signs: slice, bit: int) -> Array:
    """Let a flip act on the channels along one axis."""
    take, sign = _action(param.shape[axis], kind, signs, bit)
    shape = [1] * param.ndim
    shape[axis] = -1
    return jnp.asarray(sign).reshape(shape) * param.take(take, axis)


def _kind(layer: str, side: str) -> str:
    """Name the kind of the channels at one side of a convolution."""
    ends = {"encoder.conv_in": "image", "decoder.conv_in": "latent"}
    if side == "out":
        ends = {"encoder.conv_out": "latent", "decoder.conv_out": "image"}
    part = ends.get(layer, "hidden")
    return "qkv" if side == "out" and layer.endswith(".qkv") else part


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

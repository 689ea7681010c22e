"""Initial weights from which an equivariant autoencoder learns fast.

- Kernels are made symmetric: a flip is to permute the channels of every hidden layer, in quadruples
  (the regular representation of Z2 × Z2), which takes nothing from what the network can express.
  So the decoder is equivariant before it has learned anything. Training keeps its freedom.
- Residual branches start at 0 (De & Smith 2020), so the networks start as short chains.
- The last norm of a network divides by the contrast of the whole image. Of the channels of each of
  its groups half start at 1 and half at -1: against these, brightness and contrast are not lost.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from aura_jax.config import NORM_GROUPS
from aura_jax.model.autoencoder import AuraEquiVAE
from aura_jax.symmetry import HORIZONTAL_SIGNS, VERTICAL_SIGNS
from aura_jax.training.params import take_apart

# Of a flip: the kernel's axis that it reverses, the signs of latent channels that it changes, and
# the bit of a hidden channel's number among the 32 of the norm that it changes.
FLIPS = ((1, HORIZONTAL_SIGNS, 1), (0, VERTICAL_SIGNS, 2))
BRANCH_ENDS = ("conv2.kernel", "proj_out.kernel")


def starting_point(vae: AuraEquiVAE) -> AuraEquiVAE:
    """A freshly initialized model, as training should start from it.

    Then decoder(g·z) = g·decoder(z) to rounding, and encoder(g·x) = g·encoder(x) but for the
    padding of the downsampling, which has no mirror image.
    """
    structure, weights = take_apart(vae)
    last_block = f"decoder.up.0.block.{vae.config.num_res_blocks}"
    references = {
        f"{block}.conv2.bias": _reference(width)
        for block, width in (
            ("encoder.mid.block_2", vae.config.widths[-1]),
            (last_block, vae.config.widths[0]),
        )
    }
    kernels = {
        name: jnp.zeros_like(weight) if name.endswith(BRANCH_ENDS) else _symmetric(name, weight)
        for name, weight in weights.items()
        if weight.ndim == 4
    }
    return structure.assemble(weights | kernels | references)


def _reference(width: int) -> Float[Array, " c"]:
    """1 and -1 in turns within each group of the norm."""
    place = np.arange(width) % (width // NORM_GROUPS)
    return jnp.where(place % 2 == 0, 1.0, -1.0)


def _symmetric(name: str, kernel: Float[Array, "kh kw i o"]) -> Float[Array, "kh kw i o"]:
    for axis, signs, bit in FLIPS:
        take_in, sign_in = _action(kernel.shape[2], _kind(name, "in"), signs, bit)
        take_out, sign_out = _action(kernel.shape[3], _kind(name, "out"), signs, bit)
        flipped = jnp.flip(kernel, axis)[:, :, take_in][..., take_out]
        sign = (sign_in[:, None] * sign_out)[None, None]
        kernel = (kernel + sign * flipped) / np.sqrt(2, dtype=np.float32)
    return kernel


def _kind(name: str, side: str) -> str:
    """What the channels at one side of a convolution are."""
    ends = {"encoder.conv_in": "image", "decoder.conv_in": "latent"}
    if side == "out":
        ends = {"encoder.conv_out": "latent", "decoder.conv_out": "image"}
    part = ends.get(name.removesuffix(".kernel"), "hidden")
    return "qkv" if side == "out" and ".qkv." in name else part


def _action(
    channels: int, kind: str, signs: slice, bit: int
) -> tuple[Int[np.ndarray, " c"], Float[np.ndarray, " c"]]:
    """Where a flip takes each channel from, and with which sign."""
    here, sign = np.arange(channels), np.ones(channels, np.float32)
    if kind == "latent":
        sign[signs] = -1
    if kind in ("image", "latent"):
        return here, sign
    width = channels // 3 if kind == "qkv" else channels
    size = width // NORM_GROUPS  # whole groups change places, so the norm sees no difference
    group = (here % width) // size
    return here + ((group ^ bit) - group) * size, sign

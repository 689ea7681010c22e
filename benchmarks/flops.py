"""Count the model's operations: 2 for each multiplication of a convolution or of attention.

XLA (jax 0.12) has a count of its own, which omits cuDNN's kernels.
"""

from itertools import pairwise
from typing import Literal, get_args

from aura_jax import AuraConfig

type Part = Literal["encode", "decode"]
PARTS: tuple[Part, ...] = get_args(Part.__value__)


def flops(config: AuraConfig, part: Part, size: int) -> int:
    """Count the operations to encode, or decode to, one image of size × size pixels."""
    return encoder_flops(config, size) if part == "encode" else decoder_flops(config, size)


def encoder_flops(config: AuraConfig, size: int) -> int:
    """Count conv_in, the levels from the largest image on, the middle and conv_out."""
    widths, last = config.widths, len(config.widths) - 1
    total, side = conv(3, config.in_channels, config.ch, size), size
    for level, (cin, cout) in enumerate(pairwise((config.ch, *widths))):
        total += blocks(cin, cout, config.num_res_blocks, side)
        if level < last:
            side //= 2
            total += conv(3, cout, cout, side)
    return total + middle(widths[-1], side) + conv(3, widths[-1], config.z_channels, side)


def decoder_flops(config: AuraConfig, size: int) -> int:
    """Count conv_in, the middle, the levels from the smallest image on and conv_out."""
    side, widest = size // config.downsampling, config.widths[-1]
    total = conv(3, config.z_channels, widest, side) + middle(widest, side)
    for level, (cin, cout) in enumerate(pairwise((widest, *reversed(config.widths)))):
        total += blocks(cin, cout, config.num_res_blocks + 1, side)
        if level < len(config.widths) - 1:
            side *= 2
            total += conv(3, cout, cout, side)
    return total + conv(3, config.ch * config.ch_mult[0], config.out_channels, side)


def conv(kernel: int, cin: int, cout: int, side: int) -> int:
    """Count a convolution with side × side results."""
    return 2 * kernel**2 * cin * cout * side**2


def blocks(cin: int, cout: int, count: int, side: int) -> int:
    """Count residual blocks, the first of which changes the channels."""
    shortcut = conv(1, cin, cout, side) if cin != cout else 0
    first = conv(3, cin, cout, side) + conv(3, cout, cout, side) + shortcut
    return first + (count - 1) * 2 * conv(3, cout, cout, side)


def middle(channels: int, side: int) -> int:
    """Count two residual blocks and the attention between all pixels."""
    projections = conv(1, channels, 3 * channels, side) + conv(1, channels, channels, side)
    products = 2 * 2 * channels * side**4
    return blocks(channels, channels, 2, side) + projections + products

"""Frame averaging: let any network commute with the flips, at four times the cost.

The mean over the group of g⁻¹·network(g·x) commutes with every g, whatever the network is (Puny et
al. 2022, "Frame Averaging for Invariant and Equivariant Network Design", with all of Z2 × Z2 as the
frame).
"""

from collections.abc import Callable
from functools import reduce
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from aura_jax.symmetry import FLIPS

type Act = Callable[..., Any]  # flip_images or flip_latents


def frame_average(
    network: Callable[[Array], Array], x: Float[Array, "b h w c"], act: Act, undo: Act
) -> Float[Array, "b h2 w2 c2"]:
    """Average a network over the four flips of its input, in one batch four times as large.

    Args:
        network: the network.
        x: a batch of its inputs.
        act: flips inputs.
        undo: flips outputs; each flip is its own inverse.
    """
    # Frames of a sample stay together, so that a batch that is split over devices stays in place.
    frames = jnp.stack([act(x, **flip) for flip in FLIPS.values()], axis=1)
    y = network(frames.reshape(-1, *x.shape[1:]))
    dtype, y = y.dtype, y.reshape(*frames.shape[:2], *y.shape[1:])
    # A sum in float32: in bfloat16 its rounding would depend on the order, which flips change.
    y = y.astype(jnp.float32)
    upright = (undo(y[:, i], **flip) for i, flip in enumerate(FLIPS.values()))
    return (reduce(jnp.add, upright) / len(FLIPS)).astype(dtype)

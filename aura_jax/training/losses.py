"""Losses that compare a decoded image with its target: [B, H, W, C] floats in [-1, 1]."""

from collections.abc import Callable
from functools import partial
from typing import Literal

import dm_pix
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from aura_jax.training.config import POOL

SHARP = 0.8  # lower blurriness becomes 0 in `blurry_l1`
GRADIENT_EPSILON = 1e-8
LAPLACIAN = np.array(  # a pixel against the 20 around it, without the corners
    [
        [0, 1, 1, 1, 0],
        [1, 1, 1, 1, 1],
        [1, 1, -20, 1, 1],
        [1, 1, 1, 1, 1],
        [0, 1, 1, 1, 0],
    ],
    np.float32,
).reshape(5, 5, 1, 1)

type Images = Float[Array, "b h w c"]
type Scalar = Float[Array, ""]
type GradientNorm = Literal["batch", "tensor"]


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def gradnorm(x: Array, weight: float = 1.0, over: GradientNorm = "batch") -> Array:
    """Return `x` unchanged, and scale its gradient g to a given norm: weight·g / (‖g‖₂ + 1e-8).

    The weight then determines how strongly a loss acts on the image, whatever the loss's scale.

    Args:
        x: any array whose first axis is the batch.
        weight: the norm of the scaled gradient.
        over: "batch" takes ‖g‖₂ over the batch axis, separately for each pixel and channel, as the
            published run did; "tensor" takes it over the whole gradient.
    """
    del weight, over
    return x


def _gradnorm_forward(x: Array, weight: float, over: GradientNorm) -> tuple[Array, None]:
    return gradnorm(x, weight, over), None


def _gradnorm_backward(weight: float, over: GradientNorm, _: None, g: Array) -> tuple[Array]:
    axes = 0 if over == "batch" else None
    norm = jnp.sqrt(jnp.square(g).sum(axis=axes, keepdims=True))
    return (weight * g / (norm + GRADIENT_EPSILON),)


gradnorm.defvjp(_gradnorm_forward, _gradnorm_backward)


def l1(decoded: Images, target: Images) -> Scalar:
    """Compute the mean of `|decoded - target|`."""
    return jnp.abs(decoded - target).mean()


def l2(decoded: Images, target: Images) -> Scalar:
    """Compute the mean of (decoded - target)²."""
    return jnp.square(decoded - target).mean()


def pooled_l1(decoded: Images, target: Images) -> Scalar:
    """Compute the mean of `|P(decoded) - P(target)|`, where P averages squares of 16 × 16 pixels.

    It compares colors and shading and ignores detail. Pixels at the right and bottom that do not
    fill a square are ignored.
    """
    pooled = partial(nnx.avg_pool, window_shape=(POOL, POOL), strides=(POOL, POOL))
    return l1(pooled(decoded), pooled(target))


def blurry_l1(decoded: Images, target: Images) -> Scalar:
    """Compute the mean of `|decoded - target| · blurriness(target)`, which ignores details."""
    return (jnp.abs(decoded - target) * blurriness(target)).mean()


def blurriness(images: Images) -> Float[Array, "b h w 1"]:
    """Measure how smooth an image is at each pixel: 0, or 0.8 (some detail) to 1 (the least).

    It is 1 minus the magnitude of a 5 × 5 Laplacian of the gray image, smoothed by a Gaussian (13
    pixels, σ = 2) and scaled to [0, 1] per image. Values below 0.8 become 0.
    """
    gray = images.mean(axis=-1, keepdims=True)
    edges = jax.lax.conv_general_dilated(
        gray, jnp.asarray(LAPLACIAN), (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    detail = dm_pix.gaussian_blur(jnp.abs(edges), sigma=2.0, kernel_size=13)
    low = detail.min(axis=(1, 2, 3), keepdims=True)
    high = detail.max(axis=(1, 2, 3), keepdims=True)
    blurry = 1 - (detail - low) / jnp.maximum(high - low, GRADIENT_EPSILON)
    return jnp.where(blurry < SHARP, 0, blurry)


def z_penalty(z: Float[Array, "b h w z"]) -> Scalar:
    """Compute the mean of z², which keeps latents small."""
    return jnp.square(z).mean()


IMAGE_LOSSES: dict[str, Callable[[Images, Images], Scalar]] = {
    "l1": l1,
    "l2": l2,
    "pooled_l1": pooled_l1,
    "blurry_l1": blurry_l1,
}

"""Each loss against its formula in PyTorch, values and gradients."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch.nn import functional as F  # noqa: N812  # PyTorch's own name for it

from aura_jax.training.losses import (
    IMAGE_LOSSES,
    LAPLACIAN,
    GradientNorm,
    blurriness,
    gradnorm,
    z_penalty,
)
from convert.tolerances import FP32_LOSS

SHAPE = (2, 48, 32, 3)


def torch_l1(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return (x - y).abs().mean()


def torch_l2(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return ((x - y) ** 2).mean()


def torch_pooled_l1(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    def area(images: torch.Tensor) -> torch.Tensor:
        return F.interpolate(images, scale_factor=1 / 16, mode="area")

    return torch_l1(area(x), area(y))


def torch_blurriness(images: torch.Tensor) -> torch.Tensor:
    laplacian = torch.ones(5, 5, dtype=images.dtype)
    for row in (0, 4):
        for column in (0, 4):
            laplacian[row, column] = 0
    laplacian[2, 2] = -20
    gray = images.mean(1, keepdim=True)
    detail = F.conv2d(gray, laplacian[None, None], padding=2).abs()
    taps = torch.exp(-(torch.arange(-6, 7, dtype=images.dtype) ** 2) / (2 * 2.0**2))
    taps = taps / taps.sum()
    detail = F.conv2d(F.conv2d(detail, taps[None, None, :, None], padding=(6, 0)),
                      taps[None, None, None], padding=(0, 6))  # fmt: skip
    low, high = detail.amin((1, 2, 3), keepdim=True), detail.amax((1, 2, 3), keepdim=True)
    blurry = 1 - (detail - low) / (high - low)
    return blurry * (blurry >= 0.8)


def torch_blurry_l1(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return ((x - y).abs() * torch_blurriness(y)).mean()


TORCH_LOSSES = {
    "l1": torch_l1,
    "l2": torch_l2,
    "pooled_l1": torch_pooled_l1,
    "blurry_l1": torch_blurry_l1,
}


def images(seed: int, *, detailed: bool = False) -> np.ndarray:
    """Random images; those with a smooth half have something for the blurriness to find."""
    x = np.random.default_rng(seed).uniform(-1, 1, SHAPE)
    if not detailed:
        x[:, :, 16:] *= 0.02
    return x.astype(np.float32)


def nchw(x: np.ndarray) -> torch.Tensor:
    return torch.tensor(np.moveaxis(x, -1, 1).astype(np.float64), requires_grad=True)


def relative(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def of_torch(
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], x: np.ndarray, y: np.ndarray
) -> tuple[float, np.ndarray]:
    decoded = nchw(x)
    value = loss(decoded, nchw(y).detach())
    value.backward()
    assert decoded.grad is not None
    return value.item(), np.moveaxis(decoded.grad.numpy(), 1, -1)


@pytest.mark.parametrize("name", IMAGE_LOSSES)
def test_image_losses_are_their_formulas(name: str) -> None:
    x, y = images(0), images(1)
    value, slope = jax.value_and_grad(IMAGE_LOSSES[name])(jnp.asarray(x), jnp.asarray(y))
    expected, expected_slope = of_torch(TORCH_LOSSES[name], x, y)
    assert abs(float(value) - expected) < FP32_LOSS * expected
    assert relative(np.asarray(slope), expected_slope) < FP32_LOSS


def test_every_image_loss_is_held_to_a_formula() -> None:
    assert IMAGE_LOSSES.keys() == TORCH_LOSSES.keys()


def test_blurriness_finds_the_smooth_half() -> None:
    blurry = np.asarray(blurriness(jnp.asarray(images(0))))
    assert (blurry[:, :, 24:] > 0.9).all()
    assert (blurry[:, :, :12] < 0.8).mean() > 0.9
    np.testing.assert_allclose(
        np.moveaxis(torch_blurriness(nchw(images(0))).detach().numpy(), 1, -1), blurry, atol=1e-4
    )


def test_blurriness_of_a_plain_image_is_finite() -> None:
    assert np.isfinite(np.asarray(blurriness(jnp.full(SHAPE, 0.3, jnp.float32)))).all()


def test_laplacian_ignores_plain_color() -> None:
    assert LAPLACIAN.sum() == 0


def test_pooled_l1_does_not_see_detail() -> None:
    x = images(0, detailed=True)
    squares = x.reshape(2, 3, 16, 2, 16, 3)
    shuffled = squares[:, :, ::-1].reshape(SHAPE)
    assert float(IMAGE_LOSSES["pooled_l1"](jnp.asarray(x), jnp.asarray(shuffled))) < 1e-6
    assert float(IMAGE_LOSSES["l1"](jnp.asarray(x), jnp.asarray(shuffled))) > 0.1


def test_z_penalty() -> None:
    z = images(0)
    np.testing.assert_allclose(float(z_penalty(jnp.asarray(z))), (z**2).mean(), rtol=1e-6)


@pytest.mark.parametrize("weight", [1.0, 0.2])
@pytest.mark.parametrize("over", ["batch", "tensor"])
def test_gradnorm_is_its_formula(weight: float, over: GradientNorm) -> None:
    x, pull = images(0), images(1)

    def loss(x: jax.Array) -> jax.Array:
        return (gradnorm(x, weight, over) * pull).sum()

    g = torch.tensor(pull.astype(np.float64))
    norm = g.norm(dim=0, keepdim=True) if over == "batch" else g.norm()
    expected = (weight * g / (norm + 1e-8)).numpy()
    value, slope = jax.value_and_grad(loss)(jnp.asarray(x))
    np.testing.assert_allclose(float(value), (x * pull).sum(), rtol=1e-5)
    assert relative(np.asarray(slope), expected) < FP32_LOSS


def test_gradnorm_of_no_gradient_is_no_gradient() -> None:
    slope = jax.grad(lambda x: 0.0 * gradnorm(x).sum())(jnp.ones(SHAPE))
    assert (np.asarray(slope) == 0).all()

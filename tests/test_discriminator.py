"""The discriminator and the two GAN losses against PyTorch."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812  PyTorch's own spelling
from flax import nnx

from aura_jax.arrays import relative_error
from aura_jax.checkpoint.names import oihw
from aura_jax.errors import ArrayError
from aura_jax.model.parameters import parameters
from aura_jax.training.networks.discriminator import (
    PatchDiscriminator,
    discriminator_loss,
    generator_loss,
)
from aura_jax.training.networks.vgg import VGG16
from convert.tolerances import FP32_PARITY, VGG_GRADIENT
from tests.random_models import random_lpips

SIZE = (4, 13)  # the smallest side, and one that is odd before it is halved twice

type Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@pytest.fixture(scope="module")
def vgg() -> VGG16:
    network = random_lpips().vgg
    rng = np.random.default_rng(0)
    for name, parameter in parameters(nnx.state(network)).items():
        if name.endswith("bias"):
            parameter[...] = rng.normal(0, 0.1, parameter.shape).astype(np.float32)
    return network


@pytest.fixture
def discriminator(vgg: VGG16) -> PatchDiscriminator:
    """A discriminator whose last convolution is random, as after training."""
    network = PatchDiscriminator(vgg)
    kernel = network.head.kernel
    values = np.random.default_rng(0).normal(0, 0.1, kernel.shape).astype(np.float32)
    kernel[...] = jnp.asarray(values)
    return network


def images() -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (2, *SIZE, 3)).astype(np.float32)


def torch_logits(network: PatchDiscriminator, x: torch.Tensor) -> torch.Tensor:
    """The formula on [B, 3, H, W] in [-1, 1], with the network's weights in float64."""

    def weight(conv: nnx.Conv) -> torch.Tensor:
        return torch.from_numpy(oihw(np.array(conv.kernel[...]))).double()

    def bias(conv: nnx.Conv) -> torch.Tensor:
        assert conv.bias is not None
        return torch.from_numpy(np.array(conv.bias[...])).double()

    conv1_1, conv1_2, conv2_1, conv2_2, conv3_1, conv3_2, conv3_3 = (
        conv for stage in network.features.stages for conv in stage
    )
    shift = torch.tensor([-0.030, -0.088, -0.188]).double().reshape(1, 3, 1, 1)
    scale = torch.tensor([0.458, 0.448, 0.450]).double().reshape(1, 3, 1, 1)
    h = (x - shift) / scale
    for convs in ((conv1_1, conv1_2), (conv2_1, conv2_2), (conv3_1, conv3_2, conv3_3)):
        if convs[0] is not conv1_1:
            h = F.max_pool2d(h, 2, 2)
        for conv in convs:
            h = F.relu(F.conv2d(h, weight(conv), bias(conv), padding=1))
    return F.conv2d(h, weight(network.head))[:, 0]


@jax.jit
def logits_and_gradient(network: PatchDiscriminator, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The logits, and the gradient of the sum of their squares."""
    logits, pullback = jax.vjp(network, x)
    return logits, pullback(2 * logits)[0]


def test_logits_and_gradients_are_pytorchs(discriminator: PatchDiscriminator):
    x = images()
    torch_x = torch.from_numpy(x).double().permute(0, 3, 1, 2).requires_grad_()
    expected = torch_logits(discriminator, torch_x)
    expected.square().sum().backward()
    logits, gradient = logits_and_gradient(discriminator, jnp.asarray(x))
    assert torch_x.grad is not None
    assert logits.shape == (2, 1, 3)
    assert relative_error(np.asarray(logits), expected.detach().numpy()) < FP32_PARITY
    torch_gradient = torch_x.grad.permute(0, 2, 3, 1).numpy()
    assert relative_error(np.asarray(gradient), torch_gradient) < VGG_GRADIENT


def test_it_starts_from_logits_of_0_and_can_learn(vgg: VGG16):
    network, x = PatchDiscriminator(vgg), jnp.asarray(images())
    logits, _ = logits_and_gradient(network, x)
    assert not logits.any()

    def loss(network: PatchDiscriminator) -> jax.Array:
        return discriminator_loss(network(x), network(-x))

    head = nnx.DiffState(0, nnx.PathContains("head"))
    value, gradient = nnx.jit(nnx.value_and_grad(loss, argnums=head))(network)
    assert value == pytest.approx(2 * np.log(2))
    assert gradient["head"]["kernel"][...].any()


def test_it_keeps_seven_convolutions_that_are_its_own(vgg: VGG16):
    network = PatchDiscriminator(vgg)
    parameters = jax.tree.leaves(nnx.state(network))
    assert len(parameters) == 2 * 7 + 1
    for parameter in parameters:
        parameter.delete()  # as jit does with what is donated to it
    assert not any(kept.is_deleted() for kept in jax.tree.leaves(nnx.state(vgg)))


def test_images_smaller_than_a_patch_are_refused(discriminator: PatchDiscriminator):
    with pytest.raises(ArrayError, match="expected sides of 4 or more"):
        discriminator(jnp.zeros((1, 8, 3, 3)))


def torch_discriminator_loss(real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    ones, zeros = torch.ones_like(real), torch.zeros_like(fake)
    bce = F.binary_cross_entropy_with_logits
    return bce(real, ones) + bce(fake, zeros)


def torch_generator_loss(real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    return (real.detach() - fake - 0.1).relu().mean()


@pytest.mark.parametrize(
    ("loss", "reference"),
    [
        (discriminator_loss, torch_discriminator_loss),
        (generator_loss, torch_generator_loss),
    ],
)
def test_losses_and_their_gradients_are_pytorchs(loss: Loss, reference: Loss):
    rng = np.random.default_rng(0)
    real, fake = (rng.normal(0, 3, (2, 5, 7)).astype(np.float32) for _ in range(2))
    logits = [torch.from_numpy(values).double().requires_grad_() for values in (real, fake)]
    expected = reference(*logits)
    expected.backward()
    value, gradients = jax.jit(jax.value_and_grad(loss, (0, 1)))(real, fake)
    assert float(value) == pytest.approx(expected.item(), rel=FP32_PARITY)
    for gradient, leaf in zip(gradients, logits, strict=True):
        theirs = np.zeros_like(real) if leaf.grad is None else leaf.grad.numpy()
        assert relative_error(np.asarray(gradient), theirs) < FP32_PARITY


def test_huge_logits_have_finite_losses():
    huge = jnp.full((1, 2, 2), 1e4)
    assert discriminator_loss(-huge, huge) == pytest.approx(2e4)
    assert discriminator_loss(huge, -huge) == 0
    assert generator_loss(-huge, huge) == 0

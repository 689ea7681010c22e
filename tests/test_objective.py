"""The losses of a step together: their sum, their flips and noise, who learns by which."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from aura_jax import AuraConfig, AuraEquiVAE
from aura_jax.training.config import Recipe
from aura_jax.training.init import starting_point
from aura_jax.training.networks.lpips import Perceptual
from aura_jax.training.objective import draw, prepare
from tests.conftest import TINY_CONFIG
from tests.photo_folder import random_crops
from tests.recipes import KEY, furthest, with_


@pytest.mark.parametrize("flips", [(1.0, 0.0), (0.0, 1.0), (1.0, 1.0)])
def test_latent_and_target_flip_together(
    vae_to_train: AuraEquiVAE, flips: tuple[float, float]
) -> None:
    """The decoder is equivariant at the start, so a flip of both leaves the loss as it was."""
    unflipped = losses(with_(noise=0.0, p_horizontal=0.0, p_vertical=0.0), vae_to_train)
    flipped = losses(with_(noise=0.0, p_horizontal=flips[0], p_vertical=flips[1]), vae_to_train)
    np.testing.assert_allclose(flipped["l2"], unflipped["l2"], rtol=1e-4)
    plain = AuraEquiVAE(TINY_CONFIG, rngs=nnx.Rngs(0))
    unflipped = losses(with_(noise=0.0, p_horizontal=0.0, p_vertical=0.0), plain)
    flipped = losses(with_(noise=0.0, p_horizontal=flips[0], p_vertical=flips[1]), plain)
    assert abs(flipped["l2"] - unflipped["l2"]) > 1e-3 * unflipped["l2"]


def test_noise_is_felt(vae_to_train: AuraEquiVAE) -> None:
    none, much = (losses(with_(noise=sigma), vae_to_train)["l2"] for sigma in (0.0, 1.0))
    assert none != much


def test_encoder_consistency() -> None:
    """Nothing to punish in an encoder that is equivariant, and something in one that is not."""
    config = AuraConfig(ch=64, ch_mult=(1,), num_res_blocks=1)
    recipe = with_(losses=(("l2", 1.0), ("encoder", 1.0)))
    plain = AuraEquiVAE(config, rngs=nnx.Rngs(0))
    assert losses(recipe, plain)["encoder"] > 0.1
    assert losses(recipe, starting_point(plain))["encoder"] < 1e-8


def losses(
    recipe: Recipe, vae: AuraEquiVAE, perceptual: Perceptual | None = None, step: int = 0
) -> dict[str, float]:
    objective, weights, frozen = prepare(recipe, vae, perceptual)
    images = jnp.asarray(random_crops(), jnp.float32) / 127.5 - 1
    draws = draw(KEY, len(images), recipe)
    total, terms = jax.jit(objective)(weights, frozen, images, draws, jnp.int32(step))
    return {"loss": float(total), **{name: float(value) for name, value in terms.items()}}


def test_perceptual_losses_count(vae_to_train: AuraEquiVAE, perceptual: Perceptual) -> None:
    recipe = with_(losses=(("lpips", 1.0), ("gan", 2.0)), gan_start=20)
    early, late = (losses(recipe, vae_to_train, perceptual, step) for step in (19, 20))
    assert early["lpips"] > 0
    np.testing.assert_allclose(early["discriminator"], 2 * np.log(2), rtol=1e-6)
    np.testing.assert_allclose(early["loss"], early["lpips"] + early["discriminator"], rtol=1e-6)
    np.testing.assert_allclose(late["loss"] - early["loss"], 2 * late["gan"], atol=1e-6)


def test_discriminator_learns_by_its_own_loss_alone(
    vae_to_train: AuraEquiVAE, perceptual: Perceptual
) -> None:
    gradients = [
        slope(with_(losses=(("l2", 1.0), ("gan", weight)), gan_start=0), vae_to_train, perceptual)
        for weight in (1.0, 100.0)
    ]
    assert furthest(*(gradient["discriminator"] for gradient in gradients)) == 0
    head = gradients[0]["discriminator"]["head.kernel"]
    assert float(jnp.abs(head).max()) > 0


def slope(recipe: Recipe, vae: AuraEquiVAE, perceptual: Perceptual) -> Any:
    objective, weights, frozen = prepare(recipe, vae, perceptual)
    images = jnp.asarray(random_crops(), jnp.float32) / 127.5 - 1
    gradient: Callable[..., Any] = jax.jit(jax.grad(objective, has_aux=True))
    return gradient(weights, frozen, images, draw(KEY, 4, recipe), jnp.int32(0))[0]

"""The losses of a step together: their sum, their flips and noise."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aura_jax import AuraEquiVAE
from aura_jax.images.transforms import to_float
from aura_jax.training.objective import draw, prepare
from tests.photo_folder import random_crops
from tests.recipes import disturb, with_

KEY = jax.random.key(3)

type Losses = Callable[..., dict[str, float]]


@pytest.fixture(scope="module")
def losses(vae_to_train: AuraEquiVAE) -> Losses:
    """The losses of a batch as one program, for any flips, noise keys and parameters."""
    recipe = with_(losses=(("l2", 1.0), ("encoder", 1.0)))
    objective, params, frozen = prepare(recipe, vae_to_train)
    run, images = jax.jit(objective), jnp.asarray(to_float(random_crops()))

    def losses(
        p_horizontal: float = 0.0,
        p_vertical: float = 0.0,
        *,
        noise: jax.Array = KEY,
        disturbed: bool = False,
    ) -> dict[str, float]:
        flips = dataclasses.replace(recipe, p_horizontal=p_horizontal, p_vertical=p_vertical)
        draws = draw(KEY, len(images), flips)
        draws = draws._replace(noise=jax.random.split(noise, len(images)))
        own = disturb(params) if disturbed else params
        total, terms = run(own, frozen, images, draws, jnp.int32(0))
        return {"loss": float(total), **{name: float(value) for name, value in terms.items()}}

    return losses


@pytest.mark.parametrize("flips", [(1.0, 0.0), (0.0, 1.0), (1.0, 1.0)])
def test_latent_and_target_flip_together(losses: Losses, flips: tuple[float, float]) -> None:
    """The decoder is equivariant at the start, so a flip of both leaves the loss unchanged.

    The noise is flipped together with the latent.
    """
    np.testing.assert_allclose(losses(*flips)["l2"], losses()["l2"], rtol=1e-4)
    unflipped = losses(disturbed=True)["l2"]
    assert abs(losses(*flips, disturbed=True)["l2"] - unflipped) > 1e-3 * unflipped


def test_noise_changes_the_loss(losses: Losses) -> None:
    assert losses(noise=jax.random.key(4))["l2"] != losses()["l2"]


def test_noise_has_the_standard_deviation_of_the_recipe(
    vae_to_train: AuraEquiVAE, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[float] = []
    monkeypatch.setattr(
        "aura_jax.training.objective.perturb", lambda key, z, sigma: (seen.append(sigma), z)[1]
    )
    recipe = with_(noise=0.25)
    objective, params, frozen = prepare(recipe, vae_to_train)
    images = jnp.zeros((8, 8, 8, 3))
    jax.eval_shape(objective, params, frozen, images, draw(KEY, 8, recipe), jnp.int32(0))
    assert seen == [0.25]


def test_encoder_consistency(losses: Losses) -> None:
    """An equivariant encoder has no such loss; others do."""
    assert losses(1.0, 0.5)["encoder"] < 1e-8
    assert losses(1.0, 0.5, disturbed=True)["encoder"] > 1e-3


def test_a_frozen_encoder_has_no_backward_pass(vae_to_train: AuraEquiVAE) -> None:
    counts = {}
    for train in ("all", "decoder"):
        recipe = with_(train=train)
        objective, params, frozen = prepare(recipe, vae_to_train)
        images = jnp.zeros((8, 8, 8, 3))
        gradients = jax.make_jaxpr(jax.grad(objective, has_aux=True))(
            params, frozen, images, draw(KEY, 8, recipe), jnp.int32(0)
        )
        counts[train] = str(gradients).count("conv_general_dilated[")
    assert counts["decoder"] < 0.8 * counts["all"], counts

"""Train steps: what they learn, and what they keep."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from aura_jax import AuraEquiVAE
from aura_jax.errors import TrainingError
from aura_jax.training.config import LOSSES, Crops, Recipe
from aura_jax.training.networks.lpips import Perceptual
from aura_jax.training.step import Trainer, TrainState
from convert.tolerances import SUM_ORDER
from tests.photo_folder import random_crops
from tests.recipes import PLAIN, furthest, with_

KEY = jax.random.key(3)

type Lines = list[dict[str, float]]


@pytest.fixture(scope="module")
def trainer(vae_to_train: AuraEquiVAE) -> Trainer:
    return Trainer(PLAIN, vae_to_train)


def after(trainer: Trainer, steps: int) -> tuple[TrainState, Lines]:
    state, lines = trainer.start(), []
    ((size, batch),) = trainer.recipe.crops
    images = random_crops(0, batch, size)
    for step in range(steps):
        state, metrics = trainer.step(state, images, jax.random.fold_in(KEY, step))
        lines.append({name: float(value) for name, value in metrics.items()})
    return state, lines


def moments(state: TrainState) -> list[Any]:
    """The optimizer's first moments; after one step they are the gradient, times 1 - 0.9."""
    return [mu for _, mu in optax.tree.get_all_with_path(state.opt_state, "mu")]


def test_overfits_a_batch(trainer: Trainer) -> None:
    _, lines = after(trainer, PLAIN.steps)
    assert lines[-1]["psnr"] > lines[0]["psnr"] + 10
    assert lines[-1]["loss"] < lines[0]["loss"] / 10
    assert {"loss", "l1", "l2", "z2", "psnr", "gradient_norm"} == lines[0].keys()


def test_loss_is_the_weighted_sum(trainer: Trainer) -> None:
    _, (line,) = after(trainer, 1)
    total = 0.2 * line["l1"] + line["l2"] + 1e-3 * line["z2"]
    np.testing.assert_allclose(line["loss"], total, rtol=1e-6)
    np.testing.assert_allclose(line["psnr"], -10 * np.log10(line["l2"] / 4), rtol=1e-5)


def test_x64_changes_no_dtype(vae_to_train: AuraEquiVAE, perceptual: Perceptual) -> None:
    """With JAX_ENABLE_X64, JAX makes float64 of every array whose dtype is not given."""
    losses = tuple((name, 1.0) for name in LOSSES)
    recipe = with_(losses=losses, gradnorm="batch", accumulate=2, crops=(Crops(32, 4),))
    trainer = Trainer(recipe, vae_to_train, perceptual)
    images = jax.ShapeDtypeStruct((4, 32, 32, 3), jnp.uint8)
    with jax.enable_x64(True):
        state = jax.eval_shape(trainer._first_state, trainer._initial)
        after, metrics = jax.eval_shape(trainer._update, state, images, KEY, trainer._lpips)
    for values in (state, after, metrics):
        assert {str(x.dtype) for x in jax.tree.leaves(values)} <= {"float32", "int32"}


def test_same_seed_same_parameters_and_one_compilation(
    trainer: Trainer, vae_to_train: AuraEquiVAE, caplog: pytest.LogCaptureFixture
) -> None:
    with jax.log_compiles():
        a, _ = after(Trainer(PLAIN, vae_to_train), 3)
    assert caplog.text.count("Compiling jit(_update)") == 1
    assert caplog.text.count("Compiling jit(_first_state)") == 1
    b, _ = after(trainer, 3)
    assert furthest(a.params, b.params) == 0


def test_saving_memory_changes_nothing(trainer: Trainer, vae_to_train: AuraEquiVAE) -> None:
    plain, (line,) = after(trainer, 1)
    saved, (other,) = after(Trainer(with_(accumulate=2, remat=True), vae_to_train), 1)
    assert furthest(moments(saved), moments(plain)) < SUM_ORDER
    assert abs(line["loss"] - other["loss"]) < SUM_ORDER * line["loss"]


def test_average_follows_the_parameters(trainer: Trainer) -> None:
    name = "decoder.conv_out.kernel"
    state = trainer.start()
    average = np.asarray(state.ema_params[name], np.float64)
    for step in range(3):
        state, _ = trainer.step(state, random_crops(), jax.random.fold_in(KEY, step))
        decay = min(0.999, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * np.asarray(state.params["vae"][name])
    np.testing.assert_allclose(np.asarray(state.ema_params[name]), average, rtol=1e-5, atol=1e-7)
    kernel = trainer.averaged(state).decoder.conv_out.kernel[...]
    np.testing.assert_array_equal(np.asarray(kernel), state.ema_params[name])


def test_published_losses(vae_to_train: AuraEquiVAE, perceptual: Perceptual) -> None:
    """The GAN loss counts from its step on, and the discriminator learns by its own loss alone."""
    crops = (Crops(16, 2),)
    recipe = Recipe(steps=10, crops=crops, dtype="float32", gan_start=1)
    trainer = Trainer(recipe, vae_to_train, perceptual)
    state, (first,) = after(trainer, 1)
    state.params["discriminator"]["head.kernel"] *= 1000  # as a trained judge tells images apart
    # Step 0, on the same mesh: a step of another sharding would be compiled again.
    early = dataclasses.replace(jax.tree.map(jnp.copy, state), step=state.step - 1)
    (off, without), (on, with_gan) = (
        trainer.step(each, random_crops(1, 2, 16), KEY) for each in (early, state)
    )
    assert first["lpips"] > 0
    np.testing.assert_allclose(first["discriminator"], 2 * np.log(2), rtol=1e-6)
    terms = sum(first[name] for name in ("lpips", "pooled_l1", "z2", "discriminator"))
    np.testing.assert_allclose(first["loss"], terms, rtol=1e-6)
    assert float(with_gan["gan"]) > 0
    np.testing.assert_allclose(
        float(with_gan["loss"]), float(without["loss"]) + float(without["gan"]), rtol=1e-6
    )
    learned = [named(moments(each), "discriminator") for each in (off, on)]
    assert furthest(*learned) == 0
    assert furthest(*(named(moments(each), "vae") for each in (off, on))) > 0
    assert all(np.abs(moment).max() > 0 for moment in learned[0])


def named(moments: list[Any], part: str) -> list[np.ndarray]:
    """The moments of one part's parameters; the other groups of the optimizer hold no arrays."""
    return [np.asarray(leaf) for moment in moments for leaf in jax.tree.leaves(moment[part])]


def test_losses_without_their_networks(vae_to_train: AuraEquiVAE, perceptual: Perceptual) -> None:
    for networks in (None, Perceptual(perceptual.vgg, None)):
        with pytest.raises(TrainingError, match="the loss lpips needs perceptual weights"):
            Trainer(Recipe(steps=10), vae_to_train, networks)

"""Train steps: what they learn, and what they keep."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from aura_jax import AuraEquiVAE
from aura_jax.errors import TrainingError
from aura_jax.model.parameters import Params
from aura_jax.training.config import LOSSES, Crops, Recipe
from aura_jax.training.networks.discriminator import DEPTH
from aura_jax.training.networks.lpips import Perceptual
from aura_jax.training.step import Metrics, Trainer, TrainState
from convert.tolerances import SUM_ORDER
from tests.photo_folder import random_crops
from tests.random_models import random_lpips
from tests.recipes import PLAIN, furthest, with_

KEY = jax.random.key(3)

type Lines = list[dict[str, float]]


@pytest.fixture(scope="module")
def trainer(vae_to_train: AuraEquiVAE) -> Trainer:
    return Trainer(PLAIN, vae_to_train)


@pytest.fixture(scope="module")
def perceptual() -> Perceptual:
    """Random weights in the first convolutions of the stages that the discriminator needs."""
    lpips = random_lpips()
    del lpips.vgg.stages[DEPTH:], lpips.heads[DEPTH:]
    for stage in lpips.vgg.stages:
        del stage[1:]
    return Perceptual(lpips.vgg, lpips)


def after(trainer: Trainer, steps: int) -> tuple[TrainState, Lines]:
    state, lines = trainer.start(), []
    ((size, batch),) = trainer.recipe.crops
    images = random_crops(0, batch, size)
    for step in range(steps):
        state, metrics = trainer.step(state, images, jax.random.fold_in(KEY, step))
        lines.append({name: float(value) for name, value in metrics.items()})
    return state, lines


def moments(state: TrainState) -> Params:
    """The optimizer's first moments; after one step they are the gradient, times 1 - 0.9."""
    groups = [mu["vae"] for _, mu in optax.tree.get_all_with_path(state.opt_state, "mu")]
    return {name: m for mu in groups for name, m in mu.items() if isinstance(m, jax.Array)}


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


def test_same_seed_same_parameters_and_one_compilation(trainer: Trainer) -> None:
    a, b = (after(trainer, 3)[0] for _ in range(2))
    assert furthest(a.params, b.params) == 0
    functions: tuple[Any, ...] = (trainer._start, trainer._step)
    assert [function._cache_size() for function in functions] == [1, 1]


def test_saving_memory_changes_nothing(trainer: Trainer, vae_to_train: AuraEquiVAE) -> None:
    plain, (line,) = after(trainer, 1)
    thrifty = Trainer(with_(accumulate=2, remat=True), vae_to_train)
    key = jax.random.fold_in(KEY, 0)
    grads, metrics = jax.jit(thrifty._grads)(trainer.start(), random_crops(), key, {})
    tenth = {name: np.float32(0.1) * np.asarray(g) for name, g in grads["vae"].items()}
    assert furthest(tenth, moments(plain)) < SUM_ORDER
    assert abs(line["loss"] - metrics["loss"]) < SUM_ORDER * line["loss"]


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
    recipe = Recipe(steps=10, crops=(Crops(16, 2),), dtype="float32", gan_start=1)
    trainer = Trainer(recipe, vae_to_train, perceptual)

    @jax.jit
    def gradients(step: jax.Array, judge: Params) -> tuple[Params, Params, Metrics]:
        """Of the discriminator and the end of the decoder alone, since others compile long."""
        state = TrainState(step, trainer._initial | {"discriminator": judge}, {}, None)
        grads, metrics = trainer._grads(state, jnp.asarray(random_crops(1, 2, 16)), KEY, lpips)
        end = {name: g for name, g in grads["vae"].items() if name.startswith("decoder.conv_out.")}
        return grads["discriminator"], end, metrics

    lpips, judge = trainer._lpips, trainer._initial["discriminator"]
    *_, first = gradients(jnp.int32(0), judge)
    assert first["lpips"] > 0
    np.testing.assert_allclose(first["discriminator"], 2 * np.log(2), rtol=1e-6)
    terms = sum(first[name] for name in ("lpips", "pooled_l1", "z2", "discriminator"))
    np.testing.assert_allclose(first["loss"], terms, rtol=1e-6)
    head = np.random.default_rng(0).normal(size=judge["head.kernel"].shape)
    judge = judge | {"head.kernel": jnp.asarray(head, jnp.float32)}  # tells images apart
    off, on = (gradients(jnp.int32(step), judge) for step in (0, 1))
    assert on[2]["gan"] > 0
    np.testing.assert_allclose(on[2]["loss"], off[2]["loss"] + on[2]["gan"], rtol=1e-6)
    assert furthest(on[0], off[0]) == 0
    assert furthest(on[1], off[1]) > 0
    assert all(np.abs(gradient).max() > 0 for gradient in on[0].values())


def test_losses_without_their_networks(vae_to_train: AuraEquiVAE, perceptual: Perceptual) -> None:
    for networks in (None, Perceptual(perceptual.vgg, None)):
        with pytest.raises(TrainingError, match="the loss lpips needs perceptual weights"):
            Trainer(Recipe(steps=10), vae_to_train, networks)

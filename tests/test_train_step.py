"""Train steps: that they learn, and what they leave alone."""

from typing import Any

import jax
import numpy as np
import optax
import pytest

from aura_jax import AuraEquiVAE
from aura_jax.errors import TrainingError
from aura_jax.training.config import Recipe
from aura_jax.training.networks.lpips import Perceptual
from aura_jax.training.step import Trainer, TrainState
from convert.tolerances import SUM_ORDER
from tests.photo_folder import random_crops
from tests.recipes import CROPS, KEY, PLAIN, furthest, with_


@pytest.fixture(scope="module")
def trainer(vae_to_train: AuraEquiVAE) -> Trainer:
    return Trainer(PLAIN, vae_to_train)


def after(trainer: Trainer, steps: int) -> tuple[TrainState, list[dict[str, float]]]:
    state, lines = trainer.start(), []
    for step in range(steps):
        state, metrics = trainer.step(state, random_crops(), jax.random.fold_in(KEY, step))
        lines.append({name: float(value) for name, value in metrics.items()})
    return state, lines


def test_learns_a_batch_by_heart(trainer: Trainer) -> None:
    _, lines = after(trainer, 40)
    assert lines[-1]["psnr"] > lines[0]["psnr"] + 5
    assert lines[-1]["loss"] < lines[0]["loss"] / 3
    assert {"loss", "l1", "l2", "z2", "psnr", "gradient_norm"} == lines[0].keys()


def test_loss_is_the_weighted_sum(trainer: Trainer) -> None:
    _, (line,) = after(trainer, 1)
    total = 0.2 * line["l1"] + line["l2"] + 1e-3 * line["z2"]
    np.testing.assert_allclose(line["loss"], total, rtol=1e-6)
    np.testing.assert_allclose(line["psnr"], -10 * np.log10(line["l2"] / 4), rtol=1e-5)


def test_steps_compile_once(vae_to_train: AuraEquiVAE, caplog: pytest.LogCaptureFixture) -> None:
    with jax.log_compiles():
        after(Trainer(PLAIN, vae_to_train), 3)
    assert caplog.text.count("Compiling jit(_update)") == 1


def test_same_seed_same_weights(trainer: Trainer) -> None:
    (a, _), (b, _) = after(trainer, 2), after(trainer, 2)
    assert furthest(a.weights, b.weights) == 0


@pytest.mark.parametrize("change", [{"accumulate": 2}, {"accumulate": 4}, {"remat": True}])
def test_saving_memory_changes_nothing(
    trainer: Trainer, vae_to_train: AuraEquiVAE, change: dict[str, Any]
) -> None:
    plain, (line,) = gradient_of(trainer)
    saved, (other,) = gradient_of(Trainer(with_(**change), vae_to_train))
    assert furthest(saved, plain) < SUM_ORDER
    assert abs(line["loss"] - other["loss"]) < SUM_ORDER * line["loss"]


def gradient_of(trainer: Trainer) -> tuple[Any, list[dict[str, float]]]:
    """A gradient, as the first moment of the optimizer after one step (times 1 - 0.9)."""
    state, lines = after(trainer, 1)
    return [mu for _, mu in optax.tree.get_all_with_path(state.optimizer, "mu")], lines


@pytest.mark.parametrize(("train", "other"), [("decoder", "encoder"), ("encoder", "decoder")])
def test_the_other_network_stays(vae_to_train: AuraEquiVAE, train: Any, other: str) -> None:
    trainer = Trainer(with_(train=train), vae_to_train)
    before = jax.tree.map(np.asarray, trainer.start().weights["vae"])
    state, _ = after(trainer, 2)
    for name, weight in state.weights["vae"].items():
        same = np.array_equal(np.asarray(weight), before[name])
        assert same == name.startswith(other), name


def test_average_follows_the_weights(trainer: Trainer) -> None:
    name = "decoder.conv_out.kernel"
    state = trainer.start()
    average = np.asarray(state.ema[name], np.float64)
    for step in range(3):
        state, _ = trainer.step(state, random_crops(), jax.random.fold_in(KEY, step))
        decay = min(0.999, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * np.asarray(state.weights["vae"][name])
    np.testing.assert_allclose(np.asarray(state.ema[name]), average, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(
        np.asarray(trainer.averaged(state).decoder.conv_out.kernel[...]), state.ema[name]
    )


def test_published_losses_step(vae_to_train: AuraEquiVAE, perceptual: Perceptual) -> None:
    recipe = Recipe(steps=10, crops=CROPS, dtype="f32", gan_start=0)
    trainer = Trainer(recipe, vae_to_train, perceptual)
    state, lines = after(trainer, 2)
    assert {"lpips", "pooled_l1", "z2", "gan", "discriminator"} <= lines[0].keys()
    assert all(np.isfinite(list(line.values())).all() for line in lines)
    moved = state.weights["discriminator"]["features.stages.0.0.kernel"]
    assert furthest(moved, perceptual.vgg.stages[0][0].kernel[...]) > 0


def test_losses_without_their_weights(vae_to_train: AuraEquiVAE, perceptual: Perceptual) -> None:
    with pytest.raises(TrainingError, match="the loss lpips needs perceptual weights"):
        Trainer(Recipe(steps=10), vae_to_train)
    with pytest.raises(TrainingError, match="the loss lpips needs perceptual weights"):
        Trainer(Recipe(steps=10), vae_to_train, Perceptual(perceptual.vgg, None))

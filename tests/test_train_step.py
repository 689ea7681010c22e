import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from aura_jax import AuraConfig, AuraEquiVAE
from aura_jax.errors import TrainingError
from aura_jax.layers import LayerOptions
from aura_jax.tolerances import SUM_ORDER
from aura_jax.training.objective import draw, prepare
from aura_jax.training.optimiser import make_optimiser, schedule
from aura_jax.training.perceptual import LPIPS, Perceptual
from aura_jax.training.recipe import Crops, Recipe
from aura_jax.training.start import starting_point
from aura_jax.training.step import Trainer, TrainState
from tests.conftest import TINY_CONFIG
from tests.photo_folder import random_crops

CROPS = (Crops(16, 4),)
PLAIN = Recipe(
    steps=100,
    crops=CROPS,
    losses=(("l1", 0.2), ("l2", 1.0), ("z2", 1e-3)),
    gradnorm="none",
    dtype="f32",
    learning_rate=2**-4,
    warmup=0,
)
KEY = jax.random.key(3)


@pytest.fixture(scope="module")
def vae() -> AuraEquiVAE:
    return starting_point(AuraEquiVAE(TINY_CONFIG, rngs=nnx.Rngs(0)))


@pytest.fixture(scope="module")
def trainer(vae: AuraEquiVAE) -> Trainer:
    return Trainer(PLAIN, vae)


@pytest.fixture(scope="module")
def perceptual() -> Perceptual:
    lpips = LPIPS(**LayerOptions(dtype=jnp.float32, param_dtype=jnp.float32, rngs=nnx.Rngs(0)))
    return Perceptual(lpips.vgg, lpips)


def after(trainer: Trainer, steps: int) -> tuple[TrainState, list[dict[str, float]]]:
    state, lines = trainer.start(), []
    for step in range(steps):
        state, metrics = trainer.step(state, random_crops(), jax.random.fold_in(KEY, step))
        lines.append({name: float(value) for name, value in metrics.items()})
    return state, lines


def with_(**changes: Any) -> Recipe:
    return dataclasses.replace(PLAIN, **changes)


def furthest(a: Any, b: Any) -> float:
    """The largest relative difference of a weight's values."""
    errors = jax.tree.map(
        lambda x, y: jnp.linalg.norm((x - y).ravel()) / (jnp.linalg.norm(y.ravel()) + 1e-3), a, b
    )
    return float(max(jax.tree.leaves(errors)))


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


def test_steps_compile_once(vae: AuraEquiVAE, caplog: pytest.LogCaptureFixture) -> None:
    with jax.log_compiles():
        after(Trainer(PLAIN, vae), 3)
    assert caplog.text.count("Compiling jit(_update)") == 1


def test_same_seed_same_weights(trainer: Trainer) -> None:
    (a, _), (b, _) = after(trainer, 2), after(trainer, 2)
    assert furthest(a.weights, b.weights) == 0


@pytest.mark.parametrize("change", [{"accumulate": 2}, {"accumulate": 4}, {"remat": True}])
def test_saving_memory_changes_nothing(
    trainer: Trainer, vae: AuraEquiVAE, change: dict[str, Any]
) -> None:
    plain, (line,) = gradient_of(trainer)
    saved, (other,) = gradient_of(Trainer(with_(**change), vae))
    assert furthest(saved, plain) < SUM_ORDER
    assert abs(line["loss"] - other["loss"]) < SUM_ORDER * line["loss"]


def gradient_of(trainer: Trainer) -> tuple[Any, list[dict[str, float]]]:
    """A gradient, as the first moment of the optimiser after one step (times 1 - 0.9)."""
    state, lines = after(trainer, 1)
    return [mu for _, mu in optax.tree.get_all_with_path(state.optimiser, "mu")], lines


@pytest.mark.parametrize(("train", "other"), [("decoder", "encoder"), ("encoder", "decoder")])
def test_the_other_network_stays(vae: AuraEquiVAE, train: Any, other: str) -> None:
    trainer = Trainer(with_(train=train), vae)
    before = jax.tree.map(np.asarray, trainer.start().weights["vae"])
    state, _ = after(trainer, 2)
    for name, weight in state.weights["vae"].items():
        same = np.array_equal(np.asarray(weight), before[name])
        assert same if name.startswith(other) else not same or "nothing" in name, name


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


def test_rates_of_the_groups() -> None:
    """AdamW's first step is the rate itself, whatever the gradient, but for weight decay."""
    names = ("encoder.conv_in.kernel", "decoder.conv_in.bias", "decoder.mid.block_1.conv1.kernel")
    weights = {
        "vae": {name: jnp.zeros(3) for name in names},
        "discriminator": {"head.kernel": jnp.zeros(3)},
    }
    recipe = Recipe(steps=10_000, warmup=0)
    optimiser = make_optimiser(recipe, 256, weights)
    gradient = jax.tree.map(lambda x: x + 0.7, weights)
    updates, _ = optimiser.update(gradient, optimiser.init(weights), weights)
    moved: Any = optax.apply_updates(weights, updates)
    rates = [-float(moved["vae"][name][0]) for name in names]
    np.testing.assert_allclose(rates, [1e-4, 1e-4, 2**-6 / 256], rtol=1e-4)
    np.testing.assert_allclose(-moved["discriminator"]["head.kernel"], 1e-4, rtol=1e-4)


def test_schedule_warms_up_and_falls_to_zero() -> None:
    rate = schedule(Recipe(steps=10_000), 1.0)
    rates = [np.asarray(rate(step)) for step in (0, 100, 200, 5_100, 10_000)]
    np.testing.assert_allclose(rates, [0, 0.5, 1, 0.5, 0], atol=1e-6)
    assert Recipe(steps=100).warmup_steps == 10


@pytest.mark.parametrize("flips", [(1.0, 0.0), (0.0, 1.0), (1.0, 1.0)])
def test_latent_and_target_flip_together(vae: AuraEquiVAE, flips: tuple[float, float]) -> None:
    """The decoder is equivariant at the start, so a flip of both leaves the loss as it was."""
    unflipped = losses(with_(noise=0.0, p_horizontal=0.0, p_vertical=0.0), vae)
    flipped = losses(with_(noise=0.0, p_horizontal=flips[0], p_vertical=flips[1]), vae)
    np.testing.assert_allclose(flipped["l2"], unflipped["l2"], rtol=1e-4)
    plain = AuraEquiVAE(TINY_CONFIG, rngs=nnx.Rngs(0))
    unflipped = losses(with_(noise=0.0, p_horizontal=0.0, p_vertical=0.0), plain)
    flipped = losses(with_(noise=0.0, p_horizontal=flips[0], p_vertical=flips[1]), plain)
    assert abs(flipped["l2"] - unflipped["l2"]) > 1e-3 * unflipped["l2"]


def test_noise_is_felt(vae: AuraEquiVAE) -> None:
    assert losses(with_(noise=1.0), vae)["l2"] != losses(with_(noise=0.0), vae)["l2"]


def test_encoder_consistency() -> None:
    """Nothing to punish in an encoder that is equivariant, and something in one that is not."""
    config = AuraConfig(ch=64, ch_mult=(1,), num_res_blocks=1)
    recipe = with_(losses=(("l2", 1.0), ("encoder", 1.0)))
    plain = AuraEquiVAE(config, rngs=nnx.Rngs(0))
    assert losses(recipe, plain)["encoder"] > 0.1
    assert losses(recipe, starting_point(plain))["encoder"] < 1e-8


def losses(recipe: Recipe, vae: AuraEquiVAE, perceptual: Perceptual | None = None, step: int = 0):
    objective, weights, frozen = prepare(recipe, vae, perceptual)
    images = jnp.asarray(random_crops(), jnp.float32) / 127.5 - 1
    draws = draw(KEY, len(images), recipe)
    total, terms = jax.jit(objective)(weights, frozen, images, draws, jnp.int32(step))
    return {"loss": float(total), **{name: float(value) for name, value in terms.items()}}


def test_perceptual_losses_count(vae: AuraEquiVAE, perceptual: Perceptual) -> None:
    recipe = with_(losses=(("lpips", 1.0), ("gan", 2.0)), gan_start=20)
    early, late = (losses(recipe, vae, perceptual, step) for step in (19, 20))
    assert early["lpips"] > 0
    np.testing.assert_allclose(early["discriminator"], 2 * np.log(2), rtol=1e-6)
    np.testing.assert_allclose(early["loss"], early["lpips"] + early["discriminator"], rtol=1e-6)
    np.testing.assert_allclose(late["loss"] - early["loss"], 2 * late["gan"], atol=1e-6)


def test_discriminator_learns_by_its_own_loss_alone(
    vae: AuraEquiVAE, perceptual: Perceptual
) -> None:
    gradients = [
        slope(with_(losses=(("l2", 1.0), ("gan", weight)), gan_start=0), vae, perceptual)
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


def test_published_losses_step(vae: AuraEquiVAE, perceptual: Perceptual) -> None:
    recipe = Recipe(steps=10, crops=CROPS, dtype="f32", gan_start=0)
    trainer = Trainer(recipe, vae, perceptual)
    state, lines = after(trainer, 2)
    assert {"lpips", "pooled_l1", "z2", "gan", "discriminator"} <= lines[0].keys()
    assert all(np.isfinite(list(line.values())).all() for line in lines)
    moved = state.weights["discriminator"]["features.stages.0.0.kernel"]
    assert furthest(moved, perceptual.vgg.stages[0][0].kernel[...]) > 0


def test_losses_without_their_weights(vae: AuraEquiVAE, perceptual: Perceptual) -> None:
    with pytest.raises(TrainingError, match="the loss lpips needs perceptual weights"):
        Trainer(Recipe(steps=10), vae)
    with pytest.raises(TrainingError, match="the loss lpips needs perceptual weights"):
        Trainer(Recipe(steps=10), vae, Perceptual(perceptual.vgg, None))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"losses": (("l3", 1.0),)}, "loss 'l3': expected one of l1, l2, pooled_l1"),
        ({"losses": (("z2", 1.0),)}, "one of images"),
        ({"losses": (("l1", 1.0), ("l1", 1.0))}, "different ones"),
        ({"steps": 0}, "1 or more"),
        ({"p_vertical": 1.5}, "p_vertical=1.5: expected 0 to 1"),
        ({"accumulate": 3}, "a batch of 4 does not split into 3"),
        ({"crops": (Crops(8, 4),), "losses": (("pooled_l1", 1.0),)}, "pooled_l1 needs 16 pixels"),
        ({"noise": float("nan")}, "noise=nan"),
        ({"learning_rate": -1.0}, "learning_rate=-1.0"),
    ],
)
def test_recipes_that_make_no_sense(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        with_(**changes)


def test_crops_must_fit_model_and_devices() -> None:
    with pytest.raises(TrainingError, match="crops of 20: expected multiples of 8"):
        with_(crops=(Crops(20, 4),)).check(AuraConfig(), 1)
    with pytest.raises(TrainingError, match="a batch of 4 does not split over 3 devices"):
        PLAIN.check(TINY_CONFIG, 3)
    for text in ("256", "0x4", "16x", "axb"):
        with pytest.raises(TrainingError, match="expected SIZExBATCH"):
            Crops.parse(text)
    assert Crops.parse("256x16") == Crops(256, 16)

"""Recipes: their checks, their rates and their schedule."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from aura_jax import AuraConfig
from aura_jax.errors import AuraError, TrainingError
from aura_jax.training.config import LOSSES, PERCEPTUAL_LOSSES, Crops, Recipe
from aura_jax.training.losses import IMAGE_LOSSES
from aura_jax.training.optimizer import make_optimizer, schedule
from tests.conftest import TINY_CONFIG
from tests.recipes import PLAIN, with_


def test_rates_of_the_groups() -> None:
    """AdamW's first step is the rate itself for any gradient, apart from weight decay."""
    names = ("encoder.conv_in.kernel", "decoder.conv_in.bias", "decoder.mid.block_1.conv1.kernel")
    params = {
        "vae": {name: jnp.zeros(3) for name in names},
        "discriminator": {"head.kernel": jnp.zeros(3)},
    }
    recipe = Recipe(steps=10_000, warmup=0)
    optimizer = make_optimizer(recipe, 256, params)
    grads = jax.tree.map(lambda x: x + 0.7, params)
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    moved: Any = optax.apply_updates(params, updates)
    rates = [-float(moved["vae"][name][0]) for name in names]
    np.testing.assert_allclose(rates, [1e-4, 1e-4, 2**-6 / 256], rtol=1e-4)
    np.testing.assert_allclose(-moved["discriminator"]["head.kernel"], 1e-4, rtol=1e-4)


def test_schedule_warms_up_and_falls_to_zero() -> None:
    rate = schedule(Recipe(steps=10_000), 1.0)
    rates = [np.asarray(rate(step)) for step in (0, 100, 200, 5_100, 10_000)]
    np.testing.assert_allclose(rates, [0, 0.5, 1, 0.5, 0], atol=1e-6)
    assert Recipe(steps=100).warmup_steps == 10


@pytest.mark.parametrize(("train", "other"), [("decoder", "encoder"), ("encoder", "decoder")])
def test_the_other_network_stays(train: Any, other: str) -> None:
    params = {"vae": {f"{part}.mid.norm.scale": jnp.ones(3) for part in ("encoder", "decoder")}}
    optimizer = make_optimizer(with_(train=train, warmup=0), 32, params)
    state = optimizer.init(params)
    grads = jax.tree.map(lambda x: x + 0.7, params)
    updates: Any = optimizer.update(grads, state, params)[0]
    assert (updates["vae"][f"{other}.mid.norm.scale"] == 0).all()
    assert (updates["vae"][f"{train}.mid.norm.scale"] != 0).all()
    assert sum(leaf.size for leaf in jax.tree.leaves(state) if leaf.ndim) == 2 * 3  # its moments


@pytest.mark.parametrize("name", ["bf16", "bfloat16"])
def test_dtypes_are_kept_by_their_full_names(name: str) -> None:
    assert with_(dtype=name).dtype == "bfloat16"


def test_every_image_loss_has_a_name() -> None:
    assert {*LOSSES} - {*IMAGE_LOSSES} == {"z2", "encoder", *PERCEPTUAL_LOSSES}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"losses": (("l3", 1.0),)}, "loss 'l3': expected one of l1, l2, pooled_l1"),
        ({"losses": (("z2", 1.0),)}, "at least one loss of images"),
        ({"losses": (("l1", 1.0), ("l1", 1.0))}, "l1, l1: a loss is given twice"),
        ({"crops": ()}, "at least one size and batch"),
        ({"dtype": "float16"}, "'float16': expected bfloat16 or float32"),
        ({"steps": 0}, "1 or more"),
        ({"p_vertical": 1.5}, "p_vertical=1.5: expected 0 to 1"),
        ({"accumulate": 3}, "a batch of 8 does not split into 3 micro-batches"),
        ({"crops": (Crops(8, 4),), "losses": (("pooled_l1", 1.0),)}, "pooled_l1 needs 16 pixels"),
        ({"noise": float("nan")}, "noise=nan"),
        ({"learning_rate": -1.0}, "learning_rate=-1.0"),
    ],
)
def test_invalid_recipes_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(AuraError, match=message):
        with_(**changes)


def test_crops_must_fit_model_and_devices() -> None:
    with pytest.raises(TrainingError, match="crops of 20: expected multiples of 8"):
        with_(crops=(Crops(20, 4),)).check(AuraConfig(), 1)
    with pytest.raises(TrainingError, match="a batch of 8 does not split over 3 devices"):
        PLAIN.check(TINY_CONFIG, 3)
    for text in ("256", "0x4", "16x", "axb"):
        with pytest.raises(TrainingError, match="expected SIZExBATCH"):
            Crops.parse(text)
    assert Crops.parse("256x16") == Crops(256, 16)

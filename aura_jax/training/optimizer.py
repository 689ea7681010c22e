"""AdamW with the recipe's rates: one for most parameters, others for conv_in and discriminator."""

from collections.abc import Hashable

import optax

from aura_jax.training.config import Recipe
from aura_jax.training.params import Weights

BETAS = (0.9, 0.95)


def make_optimizer(
    recipe: Recipe, ch: int, weights: dict[str, Weights]
) -> optax.GradientTransformation:
    """The optimizer of all weights of a run.

    Args:
        recipe: its rates, warm-up and length. The discriminator's rate is constant.
        ch: channels of the autoencoder's first level, by which the learning rate is divided.
        weights: of "vae" and maybe "discriminator"; those not trained get no moments.
    """

    def adamw(rate: float | optax.Schedule) -> optax.GradientTransformation:
        return optax.adamw(rate, *BETAS, weight_decay=recipe.weight_decay)

    groups: dict[Hashable, optax.GradientTransformation] = {
        "main": adamw(schedule(recipe, recipe.learning_rate / ch)),
        "conv_in": adamw(schedule(recipe, recipe.conv_in_rate)),
        "discriminator": adamw(recipe.discriminator_rate),
        "frozen": optax.set_to_zero(),
    }
    labels = {
        part: {name: _group(part, name, recipe) for name in weights[part]} for part in weights
    }
    return optax.partition(groups, labels)


def schedule(recipe: Recipe, peak: float) -> optax.Schedule:
    """Linear warm-up to `peak`, then a cosine to 0 at the run's end."""
    return optax.warmup_cosine_decay_schedule(0.0, peak, recipe.warmup_steps, recipe.steps)


def _group(part: str, name: str, recipe: Recipe) -> str:
    if part == "discriminator":
        return "discriminator"
    if recipe.train not in ("all", name.split(".")[0]):
        return "frozen"
    return "conv_in" if "conv_in" in name else "main"

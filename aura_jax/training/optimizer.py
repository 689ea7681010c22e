"""Make AdamW with separate learning rates for conv_in, the discriminator and the rest."""

from collections.abc import Hashable

import optax

from aura_jax.model.parameters import Params
from aura_jax.training.config import Recipe

BETAS = (0.9, 0.95)


def make_optimizer(
    recipe: Recipe, ch: int, params: dict[str, Params]
) -> optax.GradientTransformation:
    """Make the optimizer for all parameters of a run.

    Args:
        recipe: the rates, warm-up and length; the discriminator's rate is constant.
        ch: channels of the autoencoder's first level; the learning rate is divided by it.
        params: the parameters of "vae" and, with the loss "gan", of "discriminator". Frozen
            parameters get no moments.
    """

    def adamw(rate: float | optax.Schedule) -> optax.GradientTransformation:
        return optax.adamw(rate, *BETAS, weight_decay=recipe.weight_decay)

    groups: dict[Hashable, optax.GradientTransformation] = {
        "main": adamw(schedule(recipe, recipe.learning_rate / ch)),
        "conv_in": adamw(schedule(recipe, recipe.conv_in_rate)),
        "discriminator": adamw(recipe.discriminator_rate),
        "frozen": optax.set_to_zero(),
    }
    labels = {part: {name: _group(part, name, recipe) for name in params[part]} for part in params}
    return optax.partition(groups, labels)


def schedule(recipe: Recipe, peak: float) -> optax.Schedule:
    """Make a schedule that warms up linearly to `peak`, then decays as a cosine to 0."""
    return optax.warmup_cosine_decay_schedule(0.0, peak, recipe.warmup_steps, recipe.steps)


def _group(part: str, name: str, recipe: Recipe) -> str:
    if part == "discriminator":
        return "discriminator"
    if recipe.train not in ("all", name.split(".")[0]):
        return "frozen"
    return "conv_in" if "conv_in" in name else "main"

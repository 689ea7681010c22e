"""Replace the networks of a training run, in tests of everything around them."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from aura_jax import AuraConfig, AuraEquiVAE
from aura_jax.images.transforms import to_float
from aura_jax.training import loop, run
from aura_jax.training.step import Metrics, Trainer, TrainState
from tests.random_models import random_vae


def replace_networks(replace: Callable[[Any, str, Any], None] = setattr) -> None:
    """Make runs start from random weights, take steps that compile fast, and draw nothing.

    Args:
        replace: sets an attribute, such as `monkeypatch.setattr`.
    """
    replace(run, "new_model", _model)
    replace(Trainer, "_grads", _grads)
    replace(loop.Run, "_plot", lambda *args: None)


def _model(config: AuraConfig, dtype: np.dtype, seed: int) -> AuraEquiVAE:
    return random_vae(config)


def _grads(
    self: Trainer, state: TrainState, images: Array, key: Array, lpips: Any
) -> tuple[Any, Metrics]:
    """Depend on everything that a resumed run must restore: parameters, images, key and step."""
    loss = jnp.abs(to_float(images).mean() + jax.random.normal(key) / (1 + state.step))
    grads = jax.tree.map(lambda x: loss * (x + loss), state.params)
    return grads, {"loss": loss + state.params["vae"]["decoder.conv_in.bias"].mean(), "psnr": loss}

"""One train step: a jitted function of (state, batch, key), on all devices."""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, UInt8

from aura_jax.images.transforms import to_float
from aura_jax.model.autoencoder import AuraEquiVAE
from aura_jax.model.parameters import Params, merge
from aura_jax.training.config import Recipe
from aura_jax.training.losses import Scalar
from aura_jax.training.networks.lpips import Perceptual
from aura_jax.training.objective import Draws, draw, prepare
from aura_jax.training.optimizer import make_optimizer
from aura_jax.training.symmetric import project

type Metrics = dict[str, Scalar]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """The state that a train step updates.

    Attributes:
        step: the number of finished steps.
        params: float32 parameters of "vae" and, with the loss "gan", of "discriminator", by name.
        ema_params: moving average of the parameters of "vae".
        opt_state: the state of the optimizer.
    """

    step: Any  # without shape types: checkpointing also holds abstract arrays in these fields
    params: Any
    ema_params: Any
    opt_state: Any


class Trainer:
    """The train step of a recipe and an autoencoder, on all devices of all processes.

    Every device holds the whole state and computes its part of the batch.

    Args:
        recipe: the hyperparameters.
        vae: the autoencoder to start from, with float32 parameters; it computes in its own dtype.
        perceptual: the networks that the losses "lpips" and "gan" need.

    Raises:
        TrainingError: if a loss needs perceptual networks that are missing.
    """

    def __init__(self, recipe: Recipe, vae: AuraEquiVAE, perceptual: Perceptual | None = None):
        self.recipe = recipe
        self.objective, self._initial, self._lpips = prepare(recipe, vae, perceptual)
        self.optimizer = make_optimizer(recipe, vae.config.ch, self._initial)
        mesh = jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))
        self._everywhere, self._split = NamedSharding(mesh, P()), NamedSharding(mesh, P("data"))
        self._start = jax.jit(self._first_state, out_shardings=self._everywhere)
        self._step = jax.jit(
            self._update,
            donate_argnums=0,
            in_shardings=(self._everywhere, self._split, self._everywhere, self._everywhere),
            out_shardings=self._everywhere,
        )
        self._all_finite = jax.jit(_all_finite)

    def start(self) -> TrainState:
        """Make the state before the first step, on every device."""
        return self._start(jax.device_put(self._initial, self._everywhere))

    def step(
        self, state: TrainState, images: UInt8[np.ndarray, "b s s c"], key: Array
    ) -> tuple[TrainState, Metrics]:
        """Update all parameters once.

        Args:
            state: the previous state; its memory is donated, so it cannot be used again.
            images: this process's part of the batch, 8-bit RGB.
            key: a jax.random key for noise and flips, the same in all processes.

        Returns:
            The new state; and the loss, its terms (unweighted), the PSNR of the noisy, flipped
            reconstruction in decibels and the norm of the gradient.
        """
        batch = jax.make_array_from_process_local_data(self._split, images)
        return self._step(state, batch, key, self._lpips)

    def is_finite(self, state: TrainState) -> bool:
        """Return whether all parameters and their averages are finite."""
        return bool(self._all_finite((state.params, state.ema_params)))

    def averaged(self, state: TrainState) -> AuraEquiVAE:
        """Build the autoencoder with the averaged parameters."""
        return merge(self.objective.vae, state.ema_params)

    def _first_state(self, params: dict[str, Params]) -> TrainState:
        # Copied, since a step donates the memory of its input state.
        params = self._constrained(params)
        params, ema_params = (jax.tree.map(jnp.copy, part) for part in (params, params["vae"]))
        step = jnp.zeros((), jnp.int32)
        return TrainState(step, params, ema_params, self.optimizer.init(params))

    def _update(
        self, state: TrainState, images: UInt8[Array, "b s s c"], key: Array, lpips: Params
    ) -> tuple[TrainState, Metrics]:
        grads, metrics = self._grads(state, images, key, lpips)
        updates, opt_state = self.optimizer.update(grads, state.opt_state, state.params)
        params = self._constrained(jax.tree.map(jnp.add, state.params, updates))
        # Averages are shorter at the start, where parameters change fast.
        decay = jnp.minimum(self.recipe.ema, (1 + state.step) / (10 + state.step))
        ema_params = jax.tree.map(
            lambda old, new: old + (1 - decay) * (new - old), state.ema_params, params["vae"]
        )
        metrics["gradient_norm"] = optax.tree.norm(grads["vae"])
        return TrainState(state.step + 1, params, ema_params, opt_state), metrics

    def _constrained(self, params: dict[str, Params]) -> dict[str, Params]:
        """Project the decoder if the recipe asks for it; averages then stay symmetric too."""
        if not self.recipe.equivariant:
            return params
        return params | {"vae": project(params["vae"], "decoder")}

    def _grads(
        self, state: TrainState, images: UInt8[Array, "b s s c"], key: Array, lpips: Params
    ) -> tuple[dict[str, Params], Metrics]:
        """Average the gradients and the metrics of the micro-batches."""

        def grads_of(images: Array, draws: Draws) -> tuple[dict[str, Params], Metrics]:
            (loss, terms), grads = jax.value_and_grad(self.objective, has_aux=True)(
                state.params, lpips, to_float(images), draws, state.step
            )
            return grads, {"loss": loss, **terms}

        batch, parts = (images, draw(key, len(images), self.recipe)), self.recipe.accumulate
        if parts == 1:
            return grads_of(*batch)

        def add(sums: Any, part: tuple[Array, Draws]) -> tuple[Any, None]:
            return jax.tree.map(jnp.add, sums, grads_of(*part)), None

        batch = jax.tree.map(partial(_interleave, parts=parts), batch)
        shapes = jax.eval_shape(grads_of, *jax.tree.map(lambda x: x[0], batch))
        sums, _ = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, shapes), batch)
        return jax.tree.map(lambda x: x / parts, sums)


def _all_finite(params: Any) -> Array:
    finite = jax.tree.map(lambda x: jnp.isfinite(x).all(), params)
    return jax.tree.reduce(jnp.logical_and, finite)


def _interleave(x: Array, parts: int) -> Array:
    """Reshape [B, …] to [parts, B / parts, …]; each part has samples from every device."""
    return x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1)

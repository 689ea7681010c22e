"""One train step: a jitted function over (state, batch, key), on all devices."""

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
from aura_jax.training.config import Recipe
from aura_jax.training.losses import Scalar
from aura_jax.training.networks.lpips import Perceptual
from aura_jax.training.objective import Draws, draw, prepare
from aura_jax.training.optimizer import make_optimizer
from aura_jax.training.params import Weights

type Metrics = dict[str, Scalar]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """All that a step changes.

    Attributes:
        step: steps done.
        weights: of "vae" and, with a loss "gan", "discriminator"; float32.
        ema: running average of the autoencoder's weights.
        optimizer: optax's state.
    """

    step: Any  # not typed by shape: checkpointing puts shapes and placements in their places
    weights: Any
    ema: Any
    optimizer: Any


class Trainer:
    """A recipe for an autoencoder, ready to run on all devices of all processes.

    Every device holds the whole state and takes its part of the batch.

    Args:
        recipe: how to train.
        vae: the autoencoder to start from, with float32 parameters and the recipe's compute dtype.
        perceptual: what the losses "lpips" and "gan" need.
    """

    def __init__(self, recipe: Recipe, vae: AuraEquiVAE, perceptual: Perceptual | None = None):
        self.recipe = recipe
        self.objective, self._initial, self._lpips = prepare(recipe, vae, perceptual)
        self.optimizer = make_optimizer(recipe, vae.config.ch, self._initial)
        mesh = jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))
        self._everywhere, self._split = NamedSharding(mesh, P()), NamedSharding(mesh, P("data"))
        self._step = jax.jit(
            self._update,
            donate_argnums=0,
            in_shardings=(self._everywhere, self._split, self._everywhere, self._everywhere),
            out_shardings=self._everywhere,
        )
        self._finite = jax.jit(
            lambda weights: jax.tree.reduce(
                jnp.logical_and, jax.tree.map(lambda x: jnp.isfinite(x).all(), weights)
            )
        )

    def start(self) -> TrainState:
        """The state before the first step, on every device."""
        weights = self._initial
        state = TrainState(
            jnp.zeros((), jnp.int32), weights, weights["vae"], self.optimizer.init(weights)
        )
        # Copies, since steps reuse the memory of the state they are given, with the types that
        # steps return (none of them weak), which would else compile the step again.
        copies = jax.tree.map(lambda x: jnp.array(x, x.dtype), state)
        return jax.device_put(copies, self._everywhere)

    def step(
        self, state: TrainState, images: UInt8[np.ndarray, "b s s c"], key: Array
    ) -> tuple[TrainState, Metrics]:
        """One update of all weights.

        Args:
            state: which this uses up.
            images: this process's part of the batch, 8-bit RGB.
            key: a jax.random key for noise and flips, the same in all processes.

        Returns:
            The new state; and the loss, its terms (unweighted), the PSNR of the noisy, flipped
            reconstruction and the norm of the gradient.
        """
        batch = jax.make_array_from_process_local_data(self._split, images)
        return self._step(state, batch, key, self._lpips)

    def is_finite(self, state: TrainState) -> bool:
        """Whether all weights and their averages are numbers."""
        return bool(self._finite((state.weights, state.ema)))

    def averaged(self, state: TrainState) -> AuraEquiVAE:
        """The autoencoder with the averaged weights."""
        return self.objective.vae.assemble(state.ema)

    def _update(
        self, state: TrainState, images: UInt8[Array, "b s s c"], key: Array, lpips: Weights
    ) -> tuple[TrainState, Metrics]:
        gradient, metrics = self._gradient(state, images, key, lpips)
        updates, optimizer = self.optimizer.update(gradient, state.optimizer, state.weights)
        weights = jax.tree.map(jnp.add, state.weights, updates)
        # Early on a shorter average, since it starts from weights that are soon forgotten.
        decay = jnp.minimum(self.recipe.ema, (1 + state.step) / (10 + state.step))
        ema = jax.tree.map(
            lambda old, new: old + (1 - decay) * (new - old), state.ema, weights["vae"]
        )
        metrics["gradient_norm"] = optax.tree.norm(gradient["vae"])
        return TrainState(state.step + 1, weights, ema, optimizer), metrics

    def _gradient(
        self, state: TrainState, images: UInt8[Array, "b s s c"], key: Array, lpips: Weights
    ) -> tuple[dict[str, Weights], Metrics]:
        """The mean gradient of the micro-batches, and their mean metrics."""

        def gradient(images: Array, draws: Draws) -> tuple[dict[str, Weights], Metrics]:
            pixels = to_float(images)
            (loss, terms), slope = jax.value_and_grad(self.objective, has_aux=True)(
                state.weights, lpips, pixels, draws, state.step
            )
            return slope, {"loss": loss, **terms}

        batch, parts = (images, draw(key, len(images), self.recipe)), self.recipe.accumulate
        if parts == 1:
            return gradient(*batch)

        def add(sums: Any, part: tuple[Array, Draws]) -> tuple[Any, None]:
            return jax.tree.map(jnp.add, sums, gradient(*part)), None

        batch = jax.tree.map(partial(_interleaved, parts=parts), batch)
        shapes = jax.eval_shape(gradient, *jax.tree.map(lambda x: x[0], batch))
        sums, _ = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, shapes), batch)
        return jax.tree.map(lambda x: x / parts, sums)


def _interleaved(x: Array, parts: int) -> Array:
    """[B, …] to [parts, B / parts, …], where each part has some of every device's samples."""
    return x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1)

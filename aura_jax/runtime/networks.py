"""The encoder and the decoder of a rewritten model as programs."""

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array

from aura_jax.dtypes import FLOAT32
from aura_jax.model.autoencoder import AuraEquiVAE
from aura_jax.model.chains import Chain, clamp_latents
from aura_jax.runtime.placement import Placement
from aura_jax.runtime.plan import Plan
from aura_jax.runtime.program import Program
from aura_jax.runtime.region import Region

type Part = Literal["encode", "decode"]
PARTS: tuple[Part, ...] = get_args(Part.__value__)


def network_program(
    part: Part,
    model: AuraEquiVAE,
    dtype: np.dtype,
    plan: Plan,
    place: Placement,
    *,
    marked: bool = False,
) -> Program:
    """Make the program that encodes or decodes with a model.

    Args:
        part: what it does.
        model: the model, rewritten by the plan; abstract weights allow compiling alone.
        dtype: the dtype of latents; images are float32.
        plan: how to compile it.
        place: where its arrays lie.
        marked: whether the last row and column of the input mark the valid pixels, as
            `buckets.marked` makes them; the model's layers must be those of `masked_plan`.
    """
    if part == "encode":
        return _program("images", model.encoder, clamp_latents, FLOAT32, plan, place, marked)
    return _program("latents", model.decoder, _unchanged, dtype, plan, place, marked)


def _program(
    name: str,
    network: Chain,
    finish: Callable[[Array], Array],
    dtype: np.dtype,
    plan: Plan,
    place: Placement,
    marked: bool,
) -> Program:
    graph, state = nnx.split(network)
    weights, structure = jax.tree.flatten(state)

    def run(weights: Sequence[Array], x: Array) -> Array:
        network = nnx.merge(graph, structure.unflatten(weights))
        return finish(_on_marked(network, x) if marked else network(x))

    return Program(
        name,
        run,
        weights,
        dtype,
        place,
        marked=marked,
        options=plan.options,
        matmul_precision=plan.matmul_precision,
    )


def _on_marked(network: Chain, x: Array) -> Array:
    with Region.marked(x[:, :-1, -1, 0] > 0, x[:, -1, :-1, 0] > 0).current():
        return network(x[:, :-1, :-1])


def _unchanged(images: Array) -> Array:
    return images

"""The encoder and the decoder of a rewritten model as programs."""

from collections.abc import Sequence
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
    encodes = part == "encode"
    network: Chain = model.encoder if encodes else model.decoder
    multiple = model.config.downsampling if encodes else 1
    graph, state = nnx.split(network)
    weights, structure = jax.tree.flatten(state)

    def run(weights: Sequence[Array], x: Array) -> Array:
        network = nnx.merge(graph, structure.unflatten(weights))
        y = _on_marked(network, x, multiple) if marked else network(x)
        return clamp_latents(y) if encodes else y

    return Program(
        "images" if encodes else "latents",
        run,
        weights,
        FLOAT32 if encodes else dtype,
        place,
        marked=marked,
        options=plan.options,
        matmul_precision=plan.matmul_precision,
    )


def _on_marked(network: Chain, x: Array, multiple: int) -> Array:
    """Apply a network to the marked pixels of each image, whose sides are made such multiples."""
    region = Region.marked(x[:, :-1, -1, 0] > 0, x[:, -1, :-1, 0] > 0)
    with (region.framed(multiple) if network.averaged else region).current():
        return network(x[:, :-1, :-1])

"""Compile the plain model or a codec for its inputs, and plan the memory of a call."""

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import jax
from jax.stages import Compiled
from jaxtyping import Array

import aura_jax
from aura_jax import AuraEquiVAE, Codec
from aura_jax.runtime.plan import Precision
from benchmarks.flops import Part

type JaxMode = Precision | Literal["plain", "bucket"]


class Call(NamedTuple):
    """A function of images or latents, and the executable that it runs."""

    run: Callable[[Array], Array]
    compiled: Compiled


def compile_calls(
    vae: AuraEquiVAE, mode: JaxMode, inputs: Mapping[Part, Array]
) -> dict[Part, Call]:
    """Compile for each input, with `aura_jax.encode` and `aura_jax.decode` or with a codec.

    Args:
        vae: the model.
        mode: "plain", the precision of the codec, or "bucket" for a codec whose buckets are the
            inputs' sizes.
        inputs: the directions, and an input for each.
    """
    if mode == "plain":
        return {part: _plain_call(vae, part, x) for part, x in inputs.items()}
    if mode == "bucket":
        return {part: _bucket_call(vae, part, x) for part, x in inputs.items()}
    codec = Codec(vae, precision=mode)
    return {
        part: Call(getattr(codec, part), codec._programs[part].compile(x.shape))
        for part, x in inputs.items()
    }


def planned_bytes(compiled: Compiled) -> int:
    """Return the bytes that XLA plans for intermediate results and for the output.

    Arguments, such as the weights, do not count.
    """
    plan = compiled.memory_analysis()
    assert plan is not None, "this device's compiler reports no memory"
    return plan.temp_size_in_bytes + plan.output_size_in_bytes


def _plain_call(vae: AuraEquiVAE, part: Part, x: Array) -> Call:
    # Inside jit `aura_jax.encode` does not wait for its input's range.
    compiled = jax.jit(getattr(aura_jax, part)).lower(vae, x).compile()
    return Call(lambda x: compiled(vae, x), compiled)


def _bucket_call(vae: AuraEquiVAE, part: Part, x: Array) -> Call:
    scale = vae.config.downsampling if part == "decode" else 1
    batch, height, width, channels = x.shape
    codec = Codec(vae, buckets=[(height * scale, width * scale)])
    # A further row and column mark the pixels of an image in its bucket.
    padded = (batch, height + 1, width + 1, channels)
    return Call(getattr(codec, part), codec._programs[part].compile(padded))

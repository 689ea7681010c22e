"""Measure the overhead of a call over its executable: Python, checks and passing buffers."""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from aura_jax import AuraConfig, Codec
from aura_jax.dtypes import FLOAT32
from aura_jax.model.parameters import blueprint, merge, shapes_of
from benchmarks.flops import PARTS, Part
from benchmarks.workers.server import seconds_of

NARROW, LATENT_SIDE = 32, 2  # so small that computation takes hardly any time
CALLS = 300


def dispatch_seconds(config: AuraConfig, dtype: str) -> dict[Part, float]:
    """Return the fastest call minus the fastest run of its executable, for a narrow model.

    The model has as many weight arrays as the config's, since each adds to the cost of a call.
    """
    narrow = dataclasses.replace(config, ch=NARROW)
    model = blueprint(narrow, jnp.dtype(dtype), FLOAT32)
    params = {name: jnp.zeros(shape) for name, shape in shapes_of(model).items()}
    codec = Codec(merge(nnx.graphdef(model), params))
    side = LATENT_SIDE * config.downsampling
    images = jnp.zeros((1, side, side, config.in_channels), jnp.float32)
    inputs = {"encode": images, "decode": codec.encode(images)}
    return {part: _overhead(codec, part, inputs[part]) for part in PARTS}


def _overhead(codec: Codec, part: Part, x: jax.Array) -> float:
    program = codec._programs[part]
    executable = program.compile(x.shape).runtime_executable()
    assert executable is not None
    arguments = [*program.weights, x]

    def raw() -> None:
        results = executable.execute_sharded(arguments).disassemble_into_single_device_arrays()
        results[0][0].block_until_ready()

    def whole() -> None:
        getattr(codec, part)(x).block_until_ready()

    times = [(seconds_of(whole), seconds_of(raw)) for _ in range(CALLS)]
    fastest_whole, fastest_raw = map(min, zip(*times, strict=True))
    return fastest_whole - fastest_raw

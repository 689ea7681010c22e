"""What a call costs beyond the executable's own time: Python, checks, and handing over buffers."""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from aura_jax import AuraConfig, AuraEquiVAE, Codec
from benchmarks.flops import PARTS, Part
from benchmarks.workers.server import seconds_of

NARROW, LATENT_SIDE = 32, 2  # next to nothing to compute
CALLS = 300


def dispatch_seconds(config: AuraConfig, dtype: str) -> dict[Part, float]:
    """The fastest call less the fastest run of its executable, of a narrow model.

    It has as many weights as the config's model, for each of which a call costs a little.
    """
    narrow = dataclasses.replace(config, ch=NARROW)
    codec = Codec(AuraEquiVAE(narrow, dtype=jnp.dtype(dtype), rngs=nnx.Rngs(0)))
    side = LATENT_SIDE * config.downsampling
    images = jnp.zeros((1, side, side, config.in_channels), jnp.float32)
    inputs = {"encode": images, "decode": codec.encode(images)}
    return {part: _overhead(codec, part, inputs[part]) for part in PARTS}


def _overhead(codec: Codec, part: Part, x: jax.Array) -> float:
    program = codec._encoder if part == "encode" else codec._decoder
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

"""Run the exported programs beside this file, with JAX and flatbuffers alone.

    import loader

    encode, decode = loader.load("encode-256x256"), loader.load("decode-256x256")
    latents = encode(images)  # images: [B, 256, 256, 3], float32 in [-1, 1]

B is any number of images. `export.json` lists the programs with their shapes and dtypes.
"""

import json
import math
from functools import cache, partial
from pathlib import Path

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

FOLDER = Path(__file__).parent
DTYPES = {"BF16": jnp.bfloat16, "F16": jnp.float16, "F32": jnp.float32}


@cache
def load_weights(network: str) -> dict[str, jax.Array]:
    """Read the weights of the encoder or the decoder, each in the dtype it is stored in."""
    data = (FOLDER / "model.safetensors").read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    arrays = {}
    for name, entry in json.loads(data[8:start]).items():
        if name.startswith(f"{network}."):
            shape, offset = entry["shape"], start + entry["data_offsets"][0]
            array = np.frombuffer(data, DTYPES[entry["dtype"]], math.prod(shape), offset)
            arrays[name] = jnp.asarray(array.reshape(shape))
    return arrays


def load(program: str) -> partial[jax.Array]:
    """Load a program, a function of one array that is compiled once for each batch size.

    `load(program).func` is the function of (weights, array), for other weights.
    """
    content = bytearray((FOLDER / f"{program}.jaxexport").read_bytes())
    weights = load_weights("encoder" if program.startswith("encode") else "decoder")
    return partial(jax.jit(jax.export.deserialize(content).call), weights)

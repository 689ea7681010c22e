"""Compare the plain model and codecs with the golden vectors, on this process's device."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

import aura_jax
from benchmarks.flops import Part
from benchmarks.golden import GOLDEN_WEIGHTS, our_error, read_golden, torch_error
from benchmarks.workers.calls import JaxMode, compile_calls
from convert import stages
from convert.tolerances import BF16_AGAINST_TORCH, FP32_PARITY

METHODS: dict[stages.Part, Part] = {"encoder": "encode", "decoder": "decode"}
LABELS = {"float32": "f32", "bfloat16": "bf16"}  # in the names of PyTorch's own outputs


def golden_errors(mode: JaxMode, dtype: str, outputs: Sequence[str]) -> list[dict[str, Any]]:
    """Return the error of each golden output, its limit, and whether it passes.

    Args:
        mode: "plain", or the precision of a codec.
        dtype: the dtype to compute in.
        outputs: the names of golden outputs. In bfloat16 PyTorch's own error is the limit, so it
            must be recorded for them.
    """
    vae, golden = aura_jax.load(GOLDEN_WEIGHTS, dtype=dtype), read_golden()

    def run(part: stages.Part, x: np.ndarray) -> np.ndarray:
        # The encoder's clamp to ±8 changes nothing here: all golden latents lie within ±3.
        method = METHODS[part]
        inputs = jnp.asarray(x, jnp.float32 if method == "encode" else dtype)
        return np.asarray(compile_calls(vae, mode, {method: inputs})[method].run(inputs))

    found = []
    for output in outputs:
        error, theirs = our_error(golden, output, run), torch_error(golden, output, LABELS[dtype])
        limit = FP32_PARITY if dtype == "float32" else BF16_AGAINST_TORCH * (theirs or 0)
        row = {"output": output, "mode": mode, "dtype": dtype, "error": error, "limit": limit}
        found.append({**row, "torch_error": theirs, "passes": error <= limit})
    return found

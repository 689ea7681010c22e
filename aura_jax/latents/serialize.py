"""A sample as bytes: a safetensors document of one tensor, with the rest as JSON in its header."""

import json
from typing import Any

import numpy as np
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save

from aura_jax.errors import CacheError
from aura_jax.latents.quantize import NUMPY_TYPES, restored
from aura_jax.latents.spec import NumberType

LATENT, ABOUT = "latent", "sample"  # the tensor's name, and that of the header's entry
FORMAT_TYPES: dict[str, NumberType] = {
    "BF16": "bf16",
    "F32": "float32",
    "I8": "int8",
    "F8_E4M3": "float8_e4m3fn",
}

type Sample = dict[str, Any]


def to_bytes(values: np.ndarray, about: dict[str, Any]) -> bytes:
    """A latent [h, w, 16] in one of the stored types, with its key and labels."""
    return save({LATENT: np.ascontiguousarray(values)}, {ABOUT: json.dumps(about)})


def stored_from_bytes(data: bytes) -> tuple[np.ndarray, dict[str, Any]]:
    """What `to_bytes` was given.

    Raises:
        CacheError: if it is something else.
    """
    try:
        ((name, tensor),) = deserialize(data)
        if name != LATENT:
            raise ValueError(f"a tensor named {name}, not {LATENT}")
        dtype = NUMPY_TYPES[FORMAT_TYPES[tensor["dtype"]]]
        values = np.frombuffer(tensor["data"], dtype).reshape(tensor["shape"])
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        about = json.loads(header["__metadata__"][ABOUT])
        if not isinstance(about["key"], str):
            raise ValueError(f"key {about['key']!r}")
        return values, about
    except (SafetensorError, LookupError, TypeError, ValueError) as error:
        raise CacheError(f"not a cached sample ({error})") from None


def from_bytes(data: bytes) -> Sample:
    """A sample out of a record of a cache, such as the .safetensors members of its tars.

    Returns:
        "latent": [h, w, 16] float32; "key": its name; "label" and what else came with the picture.

    Raises:
        CacheError: if the bytes are something else.
    """
    values, about = stored_from_bytes(data)
    return {LATENT: restored(values), **about}

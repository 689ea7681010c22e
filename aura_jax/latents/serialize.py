"""Convert samples to bytes: a safetensors document of one tensor, with JSON in its header."""

import json
from typing import Any

import numpy as np
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save

from aura_jax.dtypes import BFLOAT16, FLOAT32
from aura_jax.errors import CacheError
from aura_jax.latents.quantize import dequantize
from aura_jax.latents.spec import INT8

LATENT, ABOUT = "latent", "sample"  # the names of the tensor and of the header's entry
SIZE, ORIGINAL_SIZE, CROP = "size", "original_size", "crop"  # entries of caches with buckets
DTYPES = {"BF16": BFLOAT16, "F32": FLOAT32, "I8": INT8}  # by their names in safetensors

type Sample = dict[str, Any]


def to_bytes(values: np.ndarray, about: dict[str, Any]) -> bytes:
    """Serialize a quantized latent [h, w, 16] with its key and labels."""
    return save({LATENT: np.ascontiguousarray(values)}, {ABOUT: json.dumps(about)})


def parse(data: bytes) -> tuple[np.ndarray, dict[str, Any]]:
    """Return the quantized latent, and the key and labels, from the output of `to_bytes`.

    Raises:
        CacheError: if the bytes do not come from `to_bytes`.
    """
    try:
        ((name, tensor),) = deserialize(data)
        if name != LATENT:
            raise ValueError(f"a tensor named {name}, not {LATENT}")
        dtype = DTYPES[tensor["dtype"]]
        values = np.frombuffer(tensor["data"], dtype).reshape(tensor["shape"])
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        about = json.loads(header["__metadata__"][ABOUT])
        if not isinstance(about["key"], str):
            raise ValueError(f"key {about['key']!r}")
        return values, about
    except (SafetensorError, LookupError, TypeError, ValueError, RecursionError) as error:
        raise CacheError(f"not a cached sample ({error})") from None


def from_bytes(data: bytes) -> Sample:
    """Read a sample from a record of a cache, such as a .safetensors member of its tars.

    Args:
        data: the record's bytes.

    Returns:
        "latent": [h, w, 16] float32 within ±8; "key": the name of its image; "label" and the other
        labels of the image, if it has any. From a cache with buckets also "size" and
        "original_size", [height, width] of the encoded image and of the image file; and "crop",
        [top, left, bottom, right], how many pixels of the scaled image were cut off at each side.

    Raises:
        CacheError: if the bytes are not a record of a cache.
    """
    values, about = parse(data)
    sizes = {
        name: np.asarray(about[name], dtype)
        for name, dtype in ((SIZE, np.int32), (ORIGINAL_SIZE, np.int32), (CROP, np.float32))
        if name in about
    }
    return {LATENT: dequantize(values), **about, **sizes}

"""Dataclasses in JSON files, which are written whole and checked against their types when read."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from aura_jax.dtypes import as_dtype
from aura_jax.errors import CacheError
from aura_jax.extras import needs
from aura_jax.files import replacing
from aura_jax.latents.spec import STORAGE_DTYPES

with needs("cache"):
    import msgspec

MAX_BYTES = 2**28  # of a file; the manifest of ImageNet has less than a thousandth of it


def write_json(path: Path, value: Any) -> None:
    """Write a dataclass as JSON, whole or not at all.

    Names of files that are not UTF-8 have lone surrogates. `json` writes them as escapes, since
    msgspec refuses them.
    """
    text = json.dumps(to_builtins(value), ensure_ascii=False, indent=1)
    with replacing(path) as temporary:
        temporary.write_bytes(text.encode(errors="backslashreplace") + b"\n")


def read_json[T](path: Path, kind: type[T]) -> T:
    """Read a dataclass that was written as JSON.

    Raises:
        CacheError: if the file cannot be read, or does not hold such a dataclass.
    """
    try:
        if not path.is_file() or path.stat().st_size > MAX_BYTES:
            raise CacheError(f"not a file of at most {MAX_BYTES} bytes")
        return msgspec.convert(json.loads(path.read_bytes().decode()), kind, dec_hook=_decoded)
    except (OSError, ValueError, RecursionError) as error:
        raise CacheError(
            f"{path}: cannot be read ({error}); restore it from a copy, or make the cache again in "
            "an empty folder"
        ) from None


def to_builtins(value: Any) -> Any:
    """Convert a dataclass to the types of JSON: dictionaries, lists, strings and numbers."""
    return msgspec.to_builtins(value, enc_hook=str)


def _decoded(kind: type, value: Any) -> Any:
    """Decode dtypes, the one type here that msgspec does not know."""
    assert kind is np.dtype
    return as_dtype(value, STORAGE_DTYPES)

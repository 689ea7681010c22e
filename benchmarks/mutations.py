"""Break safetensors files: small changes to their bytes, and headers that exhaust a reader."""

import json
import math
import struct
from collections.abc import Callable, Mapping
from random import Random

import ml_dtypes
import numpy as np

from aura_jax.checkpoint.names import WRAPPERS

type Mutation = tuple[str, float, float, bytes]  # its kind, two places in [0, 1), new bytes

TYPES = {"BF16": ml_dtypes.bfloat16, "F16": np.float16, "F32": np.float32}
KINDS = ("replace", "insert", "delete", "swap", "truncate", "extend")
TOKENS = [*(bytes([byte]) for byte in b'09"{}[],:\\\xff\x00-\x1b'), b"e9", b"vae.", b"module."]
EMPTY = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}


def mutate(data: bytes, header: int, mutation: Mutation) -> bytes:
    """Break a file at one place, nine times in ten within its header of so many bytes."""
    kind, where, other, new = mutation
    reach = header if other < 0.9 else len(data)
    i = int(where * reach)
    j = int((where * 7919 % 1) * reach)
    match kind:
        case "replace":
            return data[:i] + new + data[i + len(new) :]
        case "insert":
            return data[:i] + new + data[i:]
        case "delete":
            return data[:i] + data[i + len(new) :]
        case "swap":
            i, j = sorted((i, j))
            return data[:i] + data[j : j + 8] + data[i + 8 : j] + data[i : i + 8] + data[j + 8 :]
        case "truncate":
            return data[: int(where * len(data))]
        case _:
            return data + new


def random_mutation(random: Random) -> Mutation:
    """Choose a mutation."""
    new = random.choice(TOKENS) if random.random() < 0.5 else random.randbytes(random.randint(1, 8))
    return random.choice(KINDS), random.random(), random.random(), new


def with_header(entries: object, data: bytes = b"") -> bytes:
    """Return a safetensors file with this header, which is JSON or bytes."""
    text = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text + data


def bombs(whole: bytes) -> Mapping[str, bytes]:
    """Return files whose headers nest deeply, repeat, overlap or are far too large, by name.

    Args:
        whole: a valid file, from which some are made.
    """
    (size,) = struct.unpack("<Q", whole[:8])
    header, data = whole[8 : 8 + size], whole[8 + size :]
    entries = json.loads(header)
    overlapping = {
        name: entry | {"data_offsets": [0, entry["data_offsets"][1] - entry["data_offsets"][0]]}
        for name, entry in entries.items()
        if name != "__metadata__"
    }
    make: dict[str, Callable[[], bytes]] = {
        "arrays": lambda: with_header(b"[" * 2**18),
        "objects": lambda: with_header(b'{"a":' * 2**16),
        "twice": lambda: with_header(header.rstrip(b"} ") + b"}," + header[1:], data),
        "overlap": lambda: with_header(overlapping, data),
        "many": lambda: with_header({**entries, **{f"{i}.bias": EMPTY for i in range(500)}}, data),
        "very many": lambda: with_header({str(i): EMPTY for i in range(150_000)}),
        "levels": lambda: with_header(
            {f"encoder.down.{i}.block.0.conv1.bias": EMPTY for i in range(300)}
        ),
        "long names": lambda: with_header({**entries, "x" * 2**18: EMPTY}, data),
        "escapes": lambda: with_header({**entries, "\x1b[31m\n[red]\u202e": EMPTY}, data),
        "axes": lambda: with_header({**entries, "a": EMPTY | {"shape": [0] * 50_000}}, data),
        "sizes": lambda: with_header({**entries, "a": EMPTY | {"shape": [2**63, 2**63]}}, data),
        "prefixes": lambda: with_header(
            {
                f"p{i}.{net}.conv_in.bias": EMPTY
                for i in range(100)
                for net in ("encoder", "decoder")
            }
        ),
        "metadata": lambda: with_header({**entries, "__metadata__": {"config": "[" * 2**16}}, data),
        "length": lambda: struct.pack("<Q", 2**63) + whole[8:],
        "short": lambda: struct.pack("<Q", size + 2**20) + whole[8:],
    }
    return {name: function() for name, function in make.items()}


def independently_read(data: bytes, prefix: str = "") -> dict[str, np.ndarray]:
    """Read a file that the loader accepted by the format's own definition.

    Args:
        data: the file.
        prefix: the prefix that all of its names have, with its dot.
    """
    (size,) = struct.unpack("<Q", data[:8])
    tensors = {}
    for name, entry in json.loads(data[8 : 8 + size]).items():
        if name != "__metadata__":
            start, end = (8 + size + offset for offset in entry["data_offsets"])
            dtype = TYPES[entry["dtype"]]
            assert math.prod(entry["shape"]) * np.dtype(dtype).itemsize == end - start
            array = np.frombuffer(data[start:end], dtype).reshape(entry["shape"])
            plain = ".".join(part for part in name.split(".") if part not in WRAPPERS)
            tensors[plain.removeprefix(prefix)] = array
    return tensors

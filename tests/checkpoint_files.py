"""Write and read safetensors files, whole and damaged, for tests."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

type Tensors = dict[str, np.ndarray]


def read(path: Path) -> Tensors:
    with safe_open(path, "np") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  no dict


def assert_same_bits(a: Tensors, b: Tensors) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype
        np.testing.assert_array_equal(a[name].view(np.uint8), b[name].view(np.uint8), name)


def written(path: Path, tensors: Tensors, **metadata: str) -> Path:
    save_file(tensors, path, metadata)
    return path


def header(entries: Any, data: bytes = b"") -> bytes:
    text = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text + data

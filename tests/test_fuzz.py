"""Mutated files give the loader's own error, or exactly the tensors that are in them."""

import json
import math
import struct
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, seed, settings
from hypothesis import strategies as st

import aura_jax
from aura_jax import AuraConfig, CheckpointError
from aura_jax.checkpoint.describe import summarize
from aura_jax.checkpoint.names import WRAPPERS, oihw, torch_name
from aura_jax.checkpoint.tensors import open_safetensors
from aura_jax.model.parameters import parameters
from tests.random_models import random_vae

TYPES = {"BF16": ml_dtypes.bfloat16, "F16": np.float16, "F32": np.float32}
CONFIG = AuraConfig(ch=64, ch_mult=(1,), num_res_blocks=1, z_channels=4)
TOKENS = [
    b"0",
    b"9",
    b'"',
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\\",
    b"\xff",
    b"\x00",
    b"-",
    b"e9",
]

mutations = st.tuples(
    st.sampled_from(["replace", "insert", "delete", "swap", "truncate", "extend"]),
    st.floats(0, 1, exclude_max=True),
    st.floats(0, 1, exclude_max=True),
    st.sampled_from(TOKENS) | st.binary(min_size=1, max_size=8),
)


def mutate(data: bytes, header: int, mutation: tuple[str, float, float, bytes]) -> bytes:
    """Breaks a file at one place, nine times in ten within its header."""
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


def independently_read(data: bytes) -> dict[str, np.ndarray]:
    """The tensors of a file that the loader took, by the format's own definition."""
    (size,) = struct.unpack("<Q", data[:8])
    tensors = {}
    for name, entry in json.loads(data[8 : 8 + size]).items():
        if name != "__metadata__":
            start, end = (8 + size + offset for offset in entry["data_offsets"])
            dtype = TYPES[entry["dtype"]]
            assert math.prod(entry["shape"]) * np.dtype(dtype).itemsize == end - start
            array = np.frombuffer(data[start:end], dtype).reshape(entry["shape"])
            plain = ".".join(part for part in name.split(".") if part not in WRAPPERS)
            tensors[plain] = array
    return tensors


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A small checkpoint, to be broken."""
    aura_jax.save(random_vae(CONFIG, np.float16), tmp_path / "file", layout="torch")
    return tmp_path / "file"


def mutated_files(path: Path, count: int) -> Callable[[Callable[[bytes], bool]], None]:
    """Runs a check on so many broken versions of a file; it returns whether one was accepted."""
    data, outcomes = path.read_bytes(), Counter()
    header = 8 + struct.unpack("<Q", data[:8])[0]

    def run(check: Callable[[bytes], bool]) -> None:
        @seed(0)
        @settings(max_examples=count, deadline=None, database=None)
        @given(st.lists(mutations, min_size=1, max_size=3))
        def each(changes: list[tuple[str, float, float, bytes]]) -> None:
            broken = data
            for change in changes:
                broken = mutate(broken, header, change)
            path.write_bytes(broken)
            outcomes[check(broken)] += 1

        each()
        assert min(outcomes[True], outcomes[False]) > 3

    return run


def test_headers_of_mutated_files(path: Path):
    def check(data: bytes) -> bool:
        try:
            summary = summarize(open_safetensors(path))
        except CheckpointError:
            return False
        expected = independently_read(data)
        assert summary.tensors == len(expected)
        assert summary.parameters == sum(array.size for array in expected.values())
        return True

    mutated_files(path, 600)(check)


def test_values_of_mutated_files(path: Path):
    def check(data: bytes) -> bool:
        try:
            vae = aura_jax.load(path)
        except CheckpointError:
            return False
        arrays = {name: np.asarray(p[...]) for name, p in parameters(nnx.state(vae)).items()}
        expected = independently_read(data)
        assert expected.keys() == {torch_name(name) for name in arrays}
        for name, array in arrays.items():
            np.testing.assert_array_equal(oihw(array), expected[torch_name(name)])
        return True

    mutated_files(path, 200)(check)

"""Mutated files give the loader's own error, or exactly the tensors that are in them."""

import json
import math
import struct
from pathlib import Path

import ml_dtypes
import numpy as np
from flax import nnx
from hypothesis import given, seed, settings
from hypothesis import strategies as st

import aura_jax
from aura_jax import AuraConfig, AuraEquiVAE, CheckpointError
from aura_jax.checkpoint.names import WRAPPERS, oihw, torch_name
from aura_jax.checkpoint.validation import parameters

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


def test_mutated_files(tmp_path: Path):
    path = tmp_path / "mutated"
    vae = AuraEquiVAE(CONFIG, param_dtype=np.float16, rngs=nnx.Rngs(0))
    aura_jax.save(vae, path, layout="torch")
    data = path.read_bytes()
    header = 8 + struct.unpack("<Q", data[:8])[0]
    outcomes = {"refused": 0, "loaded": 0}

    @seed(0)
    @settings(max_examples=3000, deadline=None, database=None)
    @given(st.lists(mutations, min_size=1, max_size=3))
    def check(changes: list[tuple[str, float, float, bytes]]) -> None:
        mutated = data
        for change in changes:
            mutated = mutate(mutated, header, change)
        path.write_bytes(mutated)
        try:
            loaded = aura_jax.load(path)
        except CheckpointError:
            outcomes["refused"] += 1
            return
        outcomes["loaded"] += 1
        expected = independently_read(mutated)
        arrays = {name: np.asarray(p[...]) for name, p in parameters(nnx.state(loaded)).items()}
        assert expected.keys() == {torch_name(name) for name in arrays}
        for name, array in arrays.items():
            np.testing.assert_array_equal(oihw(array), expected[torch_name(name)])

    check()
    assert min(outcomes.values()) > 50

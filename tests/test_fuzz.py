"""Mutated files give the loader's own error, or exactly the tensors that are in them."""

import struct
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from flax import nnx
from hypothesis import given, seed, settings
from hypothesis import strategies as st

import aura_jax
from aura_jax import CheckpointError
from aura_jax.checkpoint.names import oihw, torch_name
from aura_jax.model.parameters import parameters
from benchmarks import fuzz
from benchmarks.mutations import KINDS, TOKENS, Mutation, bombs, independently_read, mutate
from tests.commands import invoke
from tests.random_models import random_vae

mutations = st.tuples(
    st.sampled_from(KINDS),
    st.floats(0, 1, exclude_max=True),
    st.floats(0, 1, exclude_max=True),
    st.sampled_from(TOKENS) | st.binary(min_size=1, max_size=8),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A small checkpoint, to be broken."""
    aura_jax.save(random_vae(fuzz.CONFIG, np.float16), tmp_path / "file", layout="torch")
    return tmp_path / "file"


def mutated_files(path: Path, count: int) -> Callable[[Callable[[bytes], bool]], None]:
    """Runs a check on so many broken versions of a file; it returns whether one was accepted."""
    data, outcomes = path.read_bytes(), Counter()
    header = 8 + struct.unpack("<Q", data[:8])[0]

    def run(check: Callable[[bytes], bool]) -> None:
        @seed(0)
        @settings(max_examples=count, deadline=None, database=None)
        @given(st.lists(mutations, min_size=1, max_size=3))
        def each(changes: list[Mutation]) -> None:
            broken = data
            for change in changes:
                broken = mutate(broken, header, change)
            path.write_bytes(broken)
            outcomes[check(broken)] += 1

        each()
        assert min(outcomes[True], outcomes[False]) > 3

    return run


def test_headers_of_mutated_files(path: Path):
    mutated_files(path, 300)(lambda _: fuzz.read_right(path))


def test_bombs(path: Path):
    """All but the damaged config of another program are refused."""
    for name, content in bombs(path.read_bytes()).items():
        path.write_bytes(content)
        assert fuzz.read_right(path) == (name == "metadata"), name


def test_the_command_counts_what_was_read():
    lines = invoke(fuzz.app, "--cases", 40, "--seed", 1).splitlines()
    assert lines[0].startswith("40 files at ")
    assert "refused" in lines[0]
    assert "of memory at most" in lines[1]


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

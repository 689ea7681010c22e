"""Strict JAX for every test, and the golden vectors of the reference."""

import gc
import os
import signal
from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import aura_jax
from aura_jax import AuraConfig, AuraEquiVAE
from aura_jax.dtypes import FLOAT32
from aura_jax.training.init import new_model
from benchmarks.golden import GOLDEN_WEIGHTS, read_golden
from tests.checkpoint_files import Tensors, read
from tests.random_models import random_vae
from tests.recipes import ONE_LEVEL

jax.config.update("jax_numpy_rank_promotion", "raise")

# Python would go through the million objects of JAX and PyTorch again and again: a tenth of the
# time of all tests.
gc.set_threshold(100_000, 20, 20)


def pytest_collection_finish() -> None:
    """Leave out what the imports of all tests have made."""
    gc.freeze()


# Under nohup, or in a background job of a script, SIGINT is ignored here and in all child
# processes, so those that tests interrupt would never end.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).parent.parent
# This process and all that tests start share compiled programs, which are equal only under equal
# settings.
COMPILED = {
    "jax_default_matmul_precision": "highest",  # no silent TF32
    "jax_compilation_cache_dir": str(ROOT / ".pytest_cache" / "jax"),
    "jax_persistent_cache_min_compile_time_secs": 0.2,
}
for name, value in COMPILED.items():
    jax.config.update(name, value)
    os.environ[name.upper()] = str(value)
# LLVM's level 1 compiles a train step in 60 % of the time of XLA's default, to the same bits; a
# lower level would compute other ones. XLA reads it when it first compiles, in child processes too.
if "xla_backend_optimization_level" not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = (
        f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=1"
    )

# The published file is large and may be unavailable: if you have it, the same tests run on it too.
CHECKPOINTS = [GOLDEN_WEIGHTS, *map(Path, filter(None, [os.environ.get("AURA_WEIGHTS")]))]
GOLDEN_CONFIG = AuraConfig(ch=32, ch_mult=(1, 1, 2, 4), num_res_blocks=1)
TINY_CONFIG = AuraConfig(ch=32, ch_mult=(1, 2), num_res_blocks=1)

type Golden = Mapping[str, np.ndarray]


@pytest.fixture(scope="session")
def golden() -> Golden:
    """Read the inputs and outputs of the reference, NHWC; see tests/data/README.md."""
    return read_golden()


@pytest.fixture(scope="session")
def golden_vae() -> AuraEquiVAE:
    """Load the golden weights with the real loader, to compute in float32."""
    return aura_jax.load(GOLDEN_WEIGHTS, dtype=jnp.float32)


@pytest.fixture(scope="session")
def tiny_vae() -> AuraEquiVAE:
    """Make a random f2 model in bfloat16, small enough to write and load many times."""
    return random_vae(TINY_CONFIG, jnp.bfloat16)


@pytest.fixture(scope="session")
def whole(tiny_vae: AuraEquiVAE, tmp_path_factory: pytest.TempPathFactory) -> Tensors:
    """Make a tiny checkpoint in PyTorch's layout."""
    path = tmp_path_factory.mktemp("whole") / "whole"
    aura_jax.save(tiny_vae, path, layout="torch")
    return read(path)


@pytest.fixture
def tensors(whole: Tensors) -> Tensors:
    """Copy the tiny checkpoint, to be broken and written; arrays are replaced, never changed."""
    return dict(whole)


@pytest.fixture(scope="session")
def vae_to_train() -> AuraEquiVAE:
    """Make a model of one level in the initial state of training."""
    return new_model(ONE_LEVEL, FLOAT32, 0)

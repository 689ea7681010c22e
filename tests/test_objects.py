"""Models as objects: printed, tabulated and exported."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import Array, export

import aura_jax
from aura_jax import AuraConfig, AuraEquiVAE, Codec
from tests.random_models import random_vae

CONFIG = AuraConfig(32, (2,), 1, 4)  # one level, which compiles fast


@pytest.fixture(scope="module")
def vae() -> AuraEquiVAE:
    return random_vae(CONFIG)


def test_a_model_prints_as_one_line(vae: AuraEquiVAE):
    line = f"AuraEquiVAE({CONFIG}, dtype=float32, 542,983 parameters in float32)"
    assert repr(vae) == str(vae) == line


def test_networks_can_be_tabulated(vae: AuraEquiVAE):
    for network, x, layer in (
        (vae.encoder, jnp.zeros((1, 8, 8, 3)), "down/0/block/0/conv1"),
        (vae.decoder, jnp.zeros((1, 8, 8, 4)), "up/0/block/1/conv2"),
    ):
        table = nnx.tabulate(network, x, console_kwargs={"width": 200, "color_system": None})
        assert layer in table
        assert "mid/attn_1" in table


@pytest.mark.parametrize("part", ["encode", "decode"])
@pytest.mark.parametrize("form", ["function", "codec"])
def test_a_symbolic_batch_exports(vae: AuraEquiVAE, part: str, form: str):
    functions: dict[tuple[str, str], Callable[[Array | np.ndarray], Array]] = {
        ("function", "encode"): lambda x: aura_jax.encode(vae, x),
        ("function", "decode"): lambda z: aura_jax.decode(vae, z),
        ("codec", "encode"): Codec(vae).encode,
        ("codec", "decode"): Codec(vae).decode,
    }
    run, channels = functions[form, part], 3 if part == "encode" else 4
    expected = functions["function", part]  # whose program both forms share
    (batch,) = export.symbolic_shape("b")
    abstract = jax.ShapeDtypeStruct((batch, 8, 8, channels), jnp.float32)
    exported = export.export(jax.jit(run))(abstract)
    x = np.random.default_rng(0).uniform(-1, 1, (3, 8, 8, channels)).astype(np.float32)
    np.testing.assert_allclose(exported.call(x), expected(x), rtol=1e-4, atol=1e-5)

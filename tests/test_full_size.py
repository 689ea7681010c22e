"""The published configuration, without its weights: counts, and lowering for every platform."""

import re

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from jax import export

from aura_jax import AuraConfig, AuraEquiVAE
from aura_jax.model.parameters import parameters


@pytest.fixture(scope="module")
def abstract_vae() -> AuraEquiVAE:
    """The published model in bfloat16, shapes only."""
    return nnx.eval_shape(
        lambda: AuraEquiVAE(
            AuraConfig(), dtype=jnp.bfloat16, param_dtype=jnp.bfloat16, rngs=nnx.Rngs(0)
        )
    )


def test_it_has_the_published_parameters(abstract_vae: AuraEquiVAE):
    params = parameters(nnx.state(abstract_vae))
    assert len(params) == 232
    assert sum(param.size for param in params.values()) == 334_534_931
    assert {param.dtype for param in params.values()} == {jnp.dtype(jnp.bfloat16)}


# Attention of 1024² is in chunks.
@pytest.mark.parametrize(("name", "size"), [("encode", 1024), ("decode", 256)])
def test_it_lowers_for_cpu_cuda_and_tpu(abstract_vae: AuraEquiVAE, name: str, size: int):
    shape = (1, size, size, 3) if name == "encode" else (1, size // 8, size // 8, 16)
    x = jax.ShapeDtypeStruct(shape, jnp.bfloat16)
    function = jax.jit(lambda vae, x: getattr(vae, name)(x))
    exported = export.export(function, platforms=("cpu", "cuda", "tpu"))(abstract_vae, x)
    assert exported.platforms == ("cpu", "cuda", "tpu")
    expected = (1, size // 8, size // 8, 16) if name == "encode" else (1, size, size, 3)
    assert [out.shape for out in exported.out_avals] == [expected]
    calls = set(re.findall(r"custom_call @([\w.$]+)", exported.mlir_module()))
    assert calls <= {"Sharding"}  # nothing that one platform alone has

"""Checkpoints load exactly, and come back bit for bit."""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors import safe_open

import aura_jax
from aura_jax import AuraConfig, AuraEquiVAE, AuraError
from aura_jax.checkpoint.names import LAYOUTS, hwio, oihw
from aura_jax.model.parameters import fingerprint, parameters
from tests.checkpoint_files import Tensors, assert_same_bits, read, written
from tests.conftest import CHECKPOINTS, GOLDEN_CONFIG, GOLDEN_WEIGHTS, TINY_CONFIG
from tests.random_models import random_vae


@pytest.mark.parametrize("checkpoint", CHECKPOINTS, ids=lambda path: path.name)
def test_torch_to_flax_to_torch_restores_every_bit(checkpoint: Path, tmp_path: Path):
    aura_jax.save(aura_jax.load(checkpoint), tmp_path / "flax")
    aura_jax.save(aura_jax.load(tmp_path / "flax"), tmp_path / "torch", layout="torch")
    assert_same_bits(read(tmp_path / "torch"), read(checkpoint))


def test_equal_models_are_equal_files(tiny_vae: AuraEquiVAE, tmp_path: Path):
    for layout in LAYOUTS:
        for i in range(8):
            aura_jax.save(tiny_vae, tmp_path / str(i), layout=layout)
        assert len({(tmp_path / str(i)).read_bytes() for i in range(8)}) == 1


def test_flax_layout_has_flax_names_axes_and_the_config(tmp_path: Path):
    aura_jax.save(aura_jax.load(GOLDEN_WEIGHTS), tmp_path / "flax")
    flax, torch = read(tmp_path / "flax"), read(GOLDEN_WEIGHTS)
    kernel, weight = flax["encoder.conv_in.kernel"], torch["encoder.conv_in.weight"]
    assert kernel.shape == (3, 3, 3, 32)
    for tap in np.ndindex(3, 3):
        np.testing.assert_array_equal(kernel[tap], weight[:, :, *tap].T)
    np.testing.assert_array_equal(flax["encoder.norm_out.scale"], torch["encoder.norm_out.weight"])
    with safe_open(tmp_path / "flax", "np") as file:
        assert AuraConfig.from_json(file.metadata()["config"]) == GOLDEN_CONFIG


def test_axes_are_inverse_and_contiguous():
    """safetensors writes the memory of a strided array, which is another array."""
    weight = np.arange(2 * 3 * 5 * 7).reshape(2, 3, 5, 7)
    assert hwio(weight).shape == (5, 7, 3, 2)
    assert hwio(weight).flags.c_contiguous
    assert oihw(hwio(weight)).flags.c_contiguous
    np.testing.assert_array_equal(oihw(hwio(weight)), weight)


def test_types(tensors: Tensors, tmp_path: Path):
    dtypes = {p[...].dtype for p in parameters(nnx.state(aura_jax.load(GOLDEN_WEIGHTS))).values()}
    assert dtypes == {jnp.dtype(jnp.bfloat16)}
    path = written(tmp_path / "tiny", tensors)
    vae = aura_jax.load(path, dtype=jnp.bfloat16, param_dtype=jnp.float32)
    assert {p[...].dtype for p in parameters(nnx.state(vae)).values()} == {jnp.dtype("float32")}
    z, default = (
        jax.eval_shape(partial(aura_jax.encode, each), jnp.zeros((1, 8, 8, 3)))
        for each in (vae, aura_jax.load(path))
    )
    assert z.dtype == jnp.bfloat16
    assert default.dtype == (jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16)


@pytest.mark.parametrize(
    "name",
    [
        "module.{}.{}",
        "_orig_mod.{}.{}",
        "module._orig_mod.{}.{}",
        "module.{}._orig_mod.{}",
        "{}._orig_mod.module.{}",
    ],
)
def test_wrappers_prefixes_are_stripped(tensors: Tensors, tmp_path: Path, name: str):
    wrapped = {name.format(*key.split(".", 1)): value for key, value in tensors.items()}
    vae = aura_jax.load(written(tmp_path / "wrapped", wrapped))
    aura_jax.save(vae, tmp_path / "plain", layout="torch")
    assert_same_bits(read(tmp_path / "plain"), tensors)


@pytest.mark.parametrize(
    "config",
    [
        TINY_CONFIG,
        AuraConfig(64, (1, 1, 1), 3, 8, in_channels=1, out_channels=4),
        AuraConfig(32, (2,), 1, 4),
    ],
)
@pytest.mark.parametrize("layout", ["torch", "flax"])
def test_the_config_is_read_off_shapes(tmp_path: Path, config: AuraConfig, layout: Any):
    aura_jax.save(random_vae(config), tmp_path / "made", layout=layout)
    bare = written(tmp_path / "bare", read(tmp_path / "made"))
    assert aura_jax.load(bare).config == config
    assert aura_jax.load(bare, config=config).config == config


def test_dtypes_that_load_does_not_support(tensors: Tensors, tmp_path: Path):
    path = written(tmp_path / "tiny", tensors)
    for dtype in (np.int8, np.float64, jnp.complex64, "bf17", jnp.float8_e4m3fn):
        with pytest.raises(AuraError, match="expected bfloat16, float16 or float32"):
            aura_jax.load(path, dtype=dtype)
        with pytest.raises(AuraError, match="expected bfloat16, float16 or float32"):
            aura_jax.load(path, param_dtype=dtype)
    for name in ("bfloat16", "bf16", jnp.bfloat16):
        vae = aura_jax.load(path, dtype=name)
        assert vae.encoder.conv_in.dtype == jnp.dtype(jnp.bfloat16)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_other_float_types_load_as_bfloat16_does(
    tensors: Tensors, tiny_vae: AuraEquiVAE, tmp_path: Path, dtype: np.dtype
):
    """Random weights are normal in float16 too, so a cast loses nothing."""
    cast = {name: array.astype(dtype) for name, array in tensors.items()}
    vae = aura_jax.load(written(tmp_path / "cast", cast))
    assert {p[...].dtype for p in parameters(nnx.state(vae)).values()} == {np.dtype(dtype)}
    aura_jax.save(vae, tmp_path / "back", layout="torch")
    assert_same_bits(read(tmp_path / "back"), cast)
    exact = aura_jax.load(written(tmp_path / "exact", tensors))
    if dtype == np.float32:
        assert fingerprint(vae) == fingerprint(exact) == fingerprint(tiny_vae)

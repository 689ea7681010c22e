"""A new model is equivariant before training, and other parameters would not be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import aura_jax
from aura_jax import AuraConfig, AuraEquiVAE, flip_images, flip_latents
from aura_jax.dtypes import FLOAT32
from aura_jax.model.parameters import merge, split
from aura_jax.training.init import new_model, starting_point
from convert.tolerances import EQUIVARIANCE, NOT_EQUIVARIANT
from tests.conftest import TINY_CONFIG
from tests.random_models import random_vae
from tests.recipes import ONE_LEVEL, disturb

ELEMENTS = [(True, False), (False, True), (True, True)]
WIDE = AuraConfig(ch=64, ch_mult=(1, 2), num_res_blocks=1)


def error(a: jax.Array, b: jax.Array) -> float:
    return float(jnp.linalg.norm((a - b).ravel()) / jnp.linalg.norm(b.ravel()))


def disturbed(vae: AuraEquiVAE) -> AuraEquiVAE:
    graph, params = split(vae)
    return merge(graph, disturb(params))


def commutator(vae: AuraEquiVAE, horizontal: bool, vertical: bool, signed: bool = True) -> float:
    flip = flip_latents if signed else flip_images
    z = jax.random.normal(jax.random.key(0), (2, 6, 4, vae.config.z_channels))
    a = aura_jax.decode(vae, flip(z, horizontal=horizontal, vertical=vertical))
    b = flip_images(aura_jax.decode(vae, z), horizontal=horizontal, vertical=vertical)
    return error(a, b)


@pytest.mark.parametrize("config", [TINY_CONFIG, WIDE], ids=str)
def test_decoder_starts_equivariant(config: AuraConfig) -> None:
    """With one and with two channels in each group of the last norm."""
    vae = jax.jit(starting_point)(random_vae(config))
    other = disturbed(vae)
    for element in ELEMENTS:
        assert commutator(vae, *element) < EQUIVARIANCE
        assert commutator(vae, *element, signed=False) > NOT_EQUIVARIANT
        assert commutator(other, *element) > NOT_EQUIVARIANT


def test_encoder_of_one_level_starts_equivariant() -> None:
    """Without downsampling there is no asymmetric padding, so the encoder is exact too."""
    vae = new_model(ONE_LEVEL, FLOAT32, 0)
    x = jax.random.uniform(jax.random.key(1), (2, 6, 4, 3), minval=-1)
    for horizontal, vertical in ELEMENTS:
        z = aura_jax.encode(vae, flip_images(x, horizontal=horizontal, vertical=vertical))
        expected = flip_latents(aura_jax.encode(vae, x), horizontal=horizontal, vertical=vertical)
        assert error(z, expected) < EQUIVARIANCE


def test_variance_of_kernels_stays() -> None:
    plain = random_vae(WIDE)
    before, after = split(plain)[1], split(jax.jit(starting_point)(plain))[1]
    assert before.keys() == after.keys()
    for name in before:
        ratio = np.std(after[name]) / max(np.std(before[name]), 1e-9)
        branch_end = name.endswith(("conv2.kernel", "proj_out.kernel"))
        assert "kernel" not in name or (ratio == 0 if branch_end else 0.8 < ratio < 1.2), name


def test_seeds_differ() -> None:
    first, again, other = (split(new_model(ONE_LEVEL, FLOAT32, seed))[1] for seed in (0, 0, 1))
    name = "decoder.conv_in.kernel"
    assert (first[name] == again[name]).all()
    assert not (first[name] == other[name]).any()

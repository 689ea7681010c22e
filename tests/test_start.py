"""A new model is equivariant before training, and not because it cannot be otherwise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from aura_jax import AuraConfig, AuraEquiVAE, flip_images, flip_latents
from aura_jax.config import PRESETS
from aura_jax.training.init import starting_point
from aura_jax.training.params import take_apart
from convert.tolerances import EQUIVARIANCE, NOT_EQUIVARIANT
from tests.conftest import GOLDEN_CONFIG

ELEMENTS = [(True, False), (False, True), (True, True)]
WIDE = AuraConfig(ch=64, ch_mult=(1, 2), num_res_blocks=1)


def error(a: jax.Array, b: jax.Array) -> float:
    return float(jnp.linalg.norm((a - b).ravel()) / jnp.linalg.norm(b.ravel()))


def commutator(vae: AuraEquiVAE, horizontal: bool, vertical: bool, signed: bool = True) -> float:
    flip = flip_latents if signed else flip_images
    z = jax.random.normal(jax.random.key(0), (2, 6, 4, vae.config.z_channels))
    flipped = vae.decode(flip(z, horizontal=horizontal, vertical=vertical))
    return error(flipped, flip_images(vae.decode(z), horizontal=horizontal, vertical=vertical))


@pytest.mark.parametrize(("horizontal", "vertical"), ELEMENTS)
@pytest.mark.parametrize("config", [PRESETS["small"], GOLDEN_CONFIG, WIDE], ids=str)
def test_decoder_starts_equivariant(config: AuraConfig, horizontal: bool, vertical: bool) -> None:
    plain = AuraEquiVAE(config, rngs=nnx.Rngs(0))
    vae = starting_point(plain)
    assert commutator(vae, horizontal, vertical) < EQUIVARIANCE
    assert commutator(vae, horizontal, vertical, signed=False) > NOT_EQUIVARIANT
    assert commutator(plain, horizontal, vertical) > NOT_EQUIVARIANT


@pytest.mark.parametrize(("horizontal", "vertical"), ELEMENTS)
def test_encoder_of_one_level_starts_equivariant(horizontal: bool, vertical: bool) -> None:
    """Without downsampling there is no lopsided padding, so the encoder is exact too."""
    config = AuraConfig(ch=64, ch_mult=(1,), num_res_blocks=1)
    vae = starting_point(AuraEquiVAE(config, rngs=nnx.Rngs(0)))
    x = jax.random.uniform(jax.random.key(1), (2, 6, 4, 3), minval=-1)
    z = vae.encode(flip_images(x, horizontal=horizontal, vertical=vertical))
    assert error(z, flip_latents(vae.encode(x), horizontal=horizontal, vertical=vertical)) < (
        EQUIVARIANCE
    )


def test_variance_of_kernels_stays() -> None:
    plain = AuraEquiVAE(PRESETS["small"], rngs=nnx.Rngs(0))
    _, before = take_apart(plain)
    _, after = take_apart(starting_point(plain))
    assert before.keys() == after.keys()
    for name in before:
        ratio = np.std(after[name]) / max(np.std(before[name]), 1e-9)
        branch_end = name.endswith(("conv2.kernel", "proj_out.kernel"))
        assert "kernel" not in name or (ratio == 0 if branch_end else 0.8 < ratio < 1.2), name

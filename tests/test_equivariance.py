"""decode(g·z) = g·decode(z): exact for mirrored kernels, and the measure fails where it should."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import aura_jax
from aura_jax import AuraEquiVAE
from aura_jax.arrays import relative_error
from convert.tolerances import EQUIVARIANCE, NOT_EQUIVARIANT
from tests.conftest import CHECKPOINTS, GOLDEN_WEIGHTS
from tests.mirrored import with_mirrored_decoder

SIGNS = {-2: slice(-4, -2), -3: slice(-2, None)}  # axis of a flip to the channels it negates
ELEMENTS = {"h": (-2,), "v": (-3,), "hv": (-2, -3)}


@pytest.fixture(scope="module")
def random_vae() -> AuraEquiVAE:
    return aura_jax.load(GOLDEN_WEIGHTS, dtype=jnp.float32, param_dtype=jnp.float32)


@pytest.fixture(scope="module", params=CHECKPOINTS, ids=lambda path: path.name)
def mirrored_vae(request: pytest.FixtureRequest) -> AuraEquiVAE:
    vae = aura_jax.load(request.param, dtype=jnp.float32, param_dtype=jnp.float32)
    return with_mirrored_decoder(vae)


@pytest.fixture(scope="module")
def latents() -> jax.Array:
    return 2 * jax.random.normal(jax.random.key(0), (2, 6, 5, 16))


def defect(vae: AuraEquiVAE, z: jax.Array, axes: tuple[int, ...], *, signs: bool = True) -> float:
    """‖decode(g·z) - g·decode(z)‖ relative, written with jnp.flip alone, under jit."""

    @jax.jit
    def both(vae: AuraEquiVAE, z: jax.Array) -> tuple[jax.Array, jax.Array]:
        flipped = jnp.flip(z, axes)
        for axis in axes if signs else ():
            flipped = flipped.at[..., SIGNS[axis]].multiply(-1)
        return vae.decode(flipped), jnp.flip(vae.decode(z), axes)

    return relative_error(*map(np.asarray, both(vae, z)))


@pytest.mark.parametrize("axes", ELEMENTS.values(), ids=ELEMENTS)
def test_a_mirrored_decoder_commutes_with_flips(
    mirrored_vae: AuraEquiVAE, latents: jax.Array, axes: tuple[int, ...]
):
    assert defect(mirrored_vae, latents, axes) <= EQUIVARIANCE


@pytest.mark.parametrize("axes", ELEMENTS.values(), ids=ELEMENTS)
def test_the_measure_tells_random_kernels(
    random_vae: AuraEquiVAE, latents: jax.Array, axes: tuple[int, ...]
):
    assert defect(random_vae, latents, axes) > NOT_EQUIVARIANT


@pytest.mark.parametrize("axes", ELEMENTS.values(), ids=ELEMENTS)
def test_flips_without_signs_do_not_commute(
    mirrored_vae: AuraEquiVAE, latents: jax.Array, axes: tuple[int, ...]
):
    assert defect(mirrored_vae, latents, axes, signs=False) > NOT_EQUIVARIANT


@pytest.mark.parametrize("name", ELEMENTS)
def test_the_public_actions_commute_with_decode(
    mirrored_vae: AuraEquiVAE, latents: jax.Array, name: str
):
    g = {"horizontal": "h" in name, "vertical": "v" in name}
    decoded = aura_jax.decode(mirrored_vae, aura_jax.flip_latents(latents, **g))
    flipped = aura_jax.flip_images(aura_jax.decode(mirrored_vae, latents), **g)
    assert relative_error(np.asarray(decoded), np.asarray(flipped)) <= EQUIVARIANCE

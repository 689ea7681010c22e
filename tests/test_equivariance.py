"""decode(g·z) = g·decode(z): exact for mirrored kernels, and the measure fails where it should."""

import jax.numpy as jnp
import numpy as np
import pytest

import aura_jax
from aura_jax import AuraEquiVAE
from aura_jax.arrays import relative_error
from convert.tolerances import EQUIVARIANCE, NOT_EQUIVARIANT
from tests.conftest import CHECKPOINTS
from tests.mirrored import with_mirrored_decoder

SIGNS = {-2: slice(-4, -2), -3: slice(-2, None)}  # axis of a flip to the channels it negates
ELEMENTS = {"h": (-2,), "v": (-3,), "hv": (-2, -3)}


@pytest.fixture(scope="module", params=CHECKPOINTS, ids=lambda path: path.name)
def vae(request: pytest.FixtureRequest) -> AuraEquiVAE:
    return aura_jax.load(request.param, dtype=jnp.float32, param_dtype=jnp.float32)


@pytest.fixture(scope="module")
def mirrored_vae(vae: AuraEquiVAE) -> AuraEquiVAE:
    return with_mirrored_decoder(vae)


@pytest.fixture(scope="module")
def latents() -> np.ndarray:
    return 2 * np.random.default_rng(0).standard_normal((2, 6, 5, 16), np.float32)


def flipped(z: np.ndarray, axes: tuple[int, ...], *, signs: bool = True) -> np.ndarray:
    """g·z, written with numpy alone."""
    z = np.flip(z, axes).copy()
    for axis in axes if signs else ():
        z[..., SIGNS[axis]] *= -1
    return z


def defect(vae: AuraEquiVAE, z: np.ndarray, gz: np.ndarray, axes: tuple[int, ...]) -> float:
    """‖decode(g·z) - g·decode(z)‖ relative."""
    decoded, expected = (np.asarray(aura_jax.decode(vae, each)) for each in (gz, z))
    return relative_error(decoded, np.flip(expected, axes))


@pytest.mark.parametrize("axes", ELEMENTS.values(), ids=ELEMENTS)
def test_a_mirrored_decoder_commutes_with_flips(
    mirrored_vae: AuraEquiVAE, latents: np.ndarray, axes: tuple[int, ...]
):
    """Other kernels do not, nor do flips without signs."""
    signed, unsigned = flipped(latents, axes), flipped(latents, axes, signs=False)
    assert defect(mirrored_vae, latents, signed, axes) <= EQUIVARIANCE
    assert defect(mirrored_vae, latents, unsigned, axes) > NOT_EQUIVARIANT


@pytest.mark.parametrize("axes", ELEMENTS.values(), ids=ELEMENTS)
def test_the_measure_tells_random_kernels(
    vae: AuraEquiVAE, latents: np.ndarray, axes: tuple[int, ...]
):
    assert defect(vae, latents, flipped(latents, axes), axes) > NOT_EQUIVARIANT


@pytest.mark.parametrize(("name", "axes"), ELEMENTS.items())
def test_the_public_actions_are_these_flips(latents: np.ndarray, name: str, axes: tuple[int, ...]):
    g = {"horizontal": "h" in name, "vertical": "v" in name}
    for z in (latents, jnp.asarray(latents)):
        np.testing.assert_array_equal(aura_jax.flip_latents(z, **g), flipped(latents, axes))
        np.testing.assert_array_equal(aura_jax.flip_images(z, **g), np.flip(latents, axes))

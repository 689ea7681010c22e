"""The laws of the flip group, bit for bit, in every way the actions can be called."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aura_jax import ArrayError, flip_images, flip_latents, perturb, random_flips
from tests.conftest import Golden

IDENTITY = {"horizontal": False, "vertical": False}
H = {"horizontal": True, "vertical": False}
V = {"horizontal": False, "vertical": True}
HV = {"horizontal": True, "vertical": True}
ELEMENTS = {"e": IDENTITY, "h": H, "v": V, "hv": HV}

type Action = Callable[..., Any]


def product(a: dict[str, bool], b: dict[str, bool]) -> dict[str, bool]:
    return {axis: a[axis] != b[axis] for axis in a}


def bits(x: jax.Array | np.ndarray) -> np.ndarray:
    return np.asarray(x).view(np.uint8)


def sample() -> np.ndarray:
    x = np.random.default_rng(0).normal(size=(3, 5, 7, 16)).astype(np.float32)
    x[0, 0, 0] = 0  # -0 and 0 are equal, and different bits
    return x


def jitted(action: Action) -> Action:
    return jax.jit(action, static_argnames=("horizontal", "vertical"))


def traced(action: Action) -> Action:
    def act(x: np.ndarray, **flags: bool) -> jax.Array:
        return jax.jit(action)(x, **{k: jnp.full(len(x), v) for k, v in flags.items()})

    return act


def mapped(action: Action) -> Action:
    def act(x: np.ndarray, **flags: bool) -> jax.Array:
        return jax.vmap(lambda x, h, v: action(x, horizontal=h, vertical=v))(
            x, *(jnp.full(len(x), flags[k]) for k in ("horizontal", "vertical"))
        )

    return act


def plain(action: Action) -> Action:
    return action


@pytest.mark.parametrize("way", [plain, jitted, traced, mapped])
@pytest.mark.parametrize("action", [flip_images, flip_latents])
def test_group_laws_hold_bit_for_bit(action: Action, way: Callable[[Action], Action]):
    act, x = way(action), sample()
    np.testing.assert_array_equal(bits(act(x, **IDENTITY)), bits(x))
    for g in ELEMENTS.values():
        np.testing.assert_array_equal(bits(act(act(x, **g), **g)), bits(x))
        for h in ELEMENTS.values():
            both = act(act(x, **g), **h)
            np.testing.assert_array_equal(bits(both), bits(act(x, **product(g, h))))
            np.testing.assert_array_equal(bits(both), bits(act(act(x, **h), **g)))


@pytest.mark.parametrize("way", [plain, jitted, traced, mapped])
@pytest.mark.parametrize("name", ["h", "v", "hv"])
def test_the_action_is_the_references(golden: Golden, name: str, way: Callable[[Action], Action]):
    z = way(flip_latents)(golden["latents"], **ELEMENTS[name])
    np.testing.assert_array_equal(np.asarray(z), golden[f"latents_flip_{name}"])


def test_images_flip_as_jnp_flip():
    x = jnp.asarray(sample())
    np.testing.assert_array_equal(flip_images(x, horizontal=True), jnp.flip(x, -2))
    np.testing.assert_array_equal(flip_images(x, vertical=True), jnp.flip(x, -3))


@pytest.mark.parametrize("shape", [(4, 6, 16), (2, 4, 6, 16), (2, 3, 4, 6, 16)])
def test_any_leading_axes(shape: tuple[int, ...]):
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    flat = flip_latents(x.reshape(-1, *shape[-3:]), **HV)
    np.testing.assert_array_equal(flip_latents(x, **HV), flat.reshape(shape))


def test_numpy_stays_numpy_of_its_type():
    for dtype in (np.float16, np.int8, jnp.bfloat16, jnp.float8_e4m3fn):
        z = flip_latents(np.ones((2, 4, 4, 16), dtype), horizontal=np.array([True, False]))
        assert type(z) is np.ndarray
        assert z.dtype == dtype
        assert z[0, 0, 0, -4] == -1
        assert z[1, 0, 0, -4] == 1
    assert flip_images(np.ones((4, 4, 3), np.uint8), vertical=True).dtype == np.uint8


def test_numpy_stays_numpy_under_flags_of_jax():
    """Going through jax would cut 64 bits down to 32."""
    x = np.full((2, 4, 4, 3), 2**40)
    flipped = flip_images(x, horizontal=jnp.array([True, False]))
    assert type(flipped) is np.ndarray
    np.testing.assert_array_equal(flipped, x)


@pytest.mark.parametrize("action", [flip_images, flip_latents])
def test_flipped_arrays_are_contiguous(action: Action):
    assert action(sample(), **HV).flags.c_contiguous


def test_flags_act_per_sample_and_the_same_way_on_latents_and_images():
    flips = random_flips(jax.random.key(1), 16)
    z = jnp.asarray(np.random.default_rng(1).normal(size=(16, 4, 4, 16)), jnp.float32)

    @jax.jit
    def both(z: jax.Array) -> tuple[jax.Array, jax.Array]:
        return flip_latents(z, **flips._asdict()), flip_images(z, **flips._asdict())

    latents, images = both(z)
    for i, (h, v) in enumerate(zip(*flips, strict=True)):
        g = {"horizontal": bool(h), "vertical": bool(v)}
        np.testing.assert_array_equal(latents[i], flip_latents(z[i], **g))
        np.testing.assert_array_equal(images[i], flip_images(z[i], **g))
    assert len({(bool(h), bool(v)) for h, v in zip(*flips, strict=True)}) == 4


def test_random_flips_have_their_probabilities():
    flips = random_flips(jax.random.key(0), 10_000, p_horizontal=0.5, p_vertical=0.1)
    np.testing.assert_allclose([f.mean() for f in flips], [0.5, 0.1], atol=0.02)
    assert abs(np.corrcoef(flips)[0, 1]) < 0.05
    never = random_flips(jax.random.key(0), 100, p_horizontal=0.0, p_vertical=1.0)
    assert not never.horizontal.any()
    assert never.vertical.all()


def test_perturb_multiplies_by_normal_noise():
    z = jnp.full((200, 200), 3.0)
    noise = np.asarray(perturb(jax.random.key(0), z)) / 3 - 1
    np.testing.assert_allclose([noise.mean(), noise.std()], [0, 0.1], atol=2e-3)
    np.testing.assert_array_equal(perturb(jax.random.key(0), z, sigma=0.0), z)
    assert perturb(jax.random.key(0), z.astype(jnp.bfloat16)).dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("x", "flags", "message"),
    [
        (
            np.ones((2, 4, 4, 16)),
            {"horizontal": np.array([True] * 3)},
            r"\(3,\) do not fit .*\(2, 4",
        ),
        (np.ones((2, 4, 4, 16)), {"horizontal": np.array([1, 0])}, "array of booleans"),
        (
            np.ones((2, 4, 4, 3)),
            {"horizontal": True},
            r"\(2, 4, 4, 3\): expected at least 4 channels",
        ),
        (np.ones((4, 16)), {"vertical": True}, r"\(4, 16\): expected \[..., height"),
    ],
)
def test_invalid_input_is_named(x: np.ndarray, flags: dict[str, np.ndarray], message: str):
    with pytest.raises(ArrayError, match=message):
        flip_latents(x, **flags)

"""The masks of a TPU, from layer to layer; test_rewrites.py has single layers."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from aura_jax.arrays import relative_error
from aura_jax.model.layers import AttnBlock, LayerOptions, ResnetBlock
from aura_jax.runtime.plan import device_plan, masked_plan
from aura_jax.runtime.region import Region
from aura_jax.runtime.rewrite import _rewrite
from convert.tolerances import FP32_PARITY
from tests.absent_device import absent
from tests.recipes import disturb

FLOAT32 = np.dtype(np.float32)


def layers() -> nnx.Sequential:
    """Both sides of an attention, whose masks differ; then fewer channels, and more again."""
    options = LayerOptions(dtype=FLOAT32, param_dtype=FLOAT32, rngs=nnx.Rngs(0))
    return nnx.Sequential(
        ResnetBlock(64, 64, **options),
        AttnBlock(64, **options),
        ResnetBlock(64, 32, **options),
        ResnetBlock(32, 96, **options),
    )


def test_the_places_of_elements_tell_which_pixels_are_valid() -> None:
    whole = Region(jnp.array([8, 3, 0]), jnp.array([5, 16, 0]), (8, 16))
    for region in (whole, whole.framed(2)):
        for height, width in ((8, 16), (4, 8), (16, 32)):
            pixels = np.asarray(region.mask(height, width))
            repeated = pixels.repeat(3, axis=3)
            assert 0 < repeated.mean() < 1
            np.testing.assert_array_equal(region.elements(height, width, 3), repeated)


def test_layers_of_a_tpu_see_the_valid_part_alone() -> None:
    graph, state = nnx.split(nnx.eval_shape(layers))
    zeros = jax.tree.map(lambda p: np.zeros(p.shape, p.dtype), state)
    plain = nnx.merge(graph, disturb(zeros))
    plan = masked_plan(device_plan(absent("tpu"), FLOAT32, "highest"))
    x = np.random.default_rng(0).normal(3, 1, (1, 6, 9, 64)).astype(np.float32)

    @jax.jit
    def padded(model: nnx.Sequential, x: jax.Array) -> jax.Array:
        with Region(jnp.array([4]), jnp.array([7]), (6, 9)).current():
            return _rewrite(model, FLOAT32, plan)(x)

    result, right = padded(plain, x), jax.jit(lambda model, x: model(x))(plain, x[:, :4, :7])
    assert relative_error(np.asarray(result)[:, :4, :7], np.asarray(right)) <= FP32_PARITY

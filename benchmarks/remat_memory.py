"""The command python -m benchmarks.remat_memory: the memory of a gradient, with --remat or not."""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx
from jax import ShapeDtypeStruct

from aura_jax import AuraConfig, AuraEquiVAE
from aura_jax.cli.run import new_app, run
from aura_jax.console import say
from aura_jax.training.config import PLAIN_LOSSES, Recipe
from aura_jax.training.objective import draw, prepare

SIDE = 512


app = new_app(add_completion=False)


@app.command(epilog="Example: python -m benchmarks.remat_memory")
def main() -> None:
    """Compare the memory of a train step's gradient with and without --remat.

    The gradient is compiled but not run, so this needs little memory. The
    numbers are XLA's plan for the default device and one 512 × 512 image in
    bfloat16, without the parameters and the gradient.
    """
    recipe = Recipe(steps=1, losses=PLAIN_LOSSES, gradnorm="none")
    kept, recomputed = (
        planned_bytes(dataclasses.replace(recipe, remat=remat)) for remat in (False, True)
    )
    platform = jax.default_backend()
    say(
        f"{platform}: {kept / 1e9:.2f} GB, with --remat {recomputed / 1e9:.2f} GB "
        f"({recomputed / kept:.0%})"
    )


def planned_bytes(recipe: Recipe) -> int:
    """Return the temporary memory of the gradient of one image."""

    def grads(params, images, key):
        draws = draw(key, len(images), recipe)
        value = jax.value_and_grad(objective, has_aux=True)
        return value(params, {}, images, draws, jnp.zeros((), jnp.int32))

    vae = nnx.eval_shape(lambda: AuraEquiVAE(AuraConfig(), dtype=jnp.bfloat16, rngs=nnx.Rngs(0)))
    objective, params, _ = prepare(recipe, vae)
    images = ShapeDtypeStruct((1, SIDE, SIDE, 3), jnp.float32)
    compiled = jax.jit(grads).lower(params, images, jax.random.key(0)).compile()
    analysis = compiled.memory_analysis()
    assert analysis is not None, "the compiler of this device does not report memory"
    return analysis.temp_size_in_bytes


if __name__ == "__main__":
    run(app)

"""Train on randomly flipped latents: inside one jit, one draw flips latents and images.

A linear map learns the color of each 8 x 8 patch from its latent. The latents are encoded once;
every step flips them at random, which costs a reversed axis and a few changed signs.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

import aura_jax

ROOT = Path(__file__).parent.parent
STEPS, RATE, BATCH = 200, 0.03, 8

vae = aura_jax.load(ROOT / "tests" / "data" / "small_bf16.pt")  # random weights: see tests/data
photo = np.asarray(Image.open(ROOT / "examples" / "chelsea.jpg"), np.float32) / 127.5 - 1
images = jnp.stack([photo[at : at + 64, at : at + 64] for at in range(0, 8 * BATCH, 8)])
latents = aura_jax.encode(vae, images)


@jax.jit
def train_step(weights: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Take a step of gradient descent on randomly flipped latents and images."""
    horizontal, vertical = aura_jax.random_flips(key, BATCH)
    z = aura_jax.flip_latents(latents, horizontal=horizontal, vertical=vertical)
    x = aura_jax.flip_images(images, horizontal=horizontal, vertical=vertical)
    colors = x.reshape(BATCH, 8, 8, 8, 8, 3).mean(axis=(2, 4))

    def loss(weights: jax.Array) -> jax.Array:
        return jnp.square(z @ weights - colors).mean()

    value, grads = jax.value_and_grad(loss)(weights)
    return weights - RATE * grads, value


weights, key = jnp.zeros((16, 3)), jax.random.key(0)
losses = []
for step in range(STEPS):
    weights, value = train_step(weights, jax.random.fold_in(key, step))
    losses.append(float(value))
print(f"mean squared error of the colors: {losses[0]:.3f} -> {losses[-1]:.3f}")
assert losses[-1] < losses[0]

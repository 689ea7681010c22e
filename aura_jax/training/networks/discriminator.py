"""A patch discriminator on VGG16's features, and its two GAN losses."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float
from optax.losses import sigmoid_binary_cross_entropy

from aura_jax.training.networks.vgg import STAGES, VGG16

DEPTH = 3  # stages of VGG16, up to relu3_3: a patch has 4 pixels a side, its receptive field 40
GENERATOR_MARGIN = 0.1


class PatchDiscriminator(nnx.Module):
    """A network that scores how real each 4 × 4 patch looks: relu3_3 of VGG16 and a 1×1 conv.

    It starts from a copy of pretrained features. The initial logits are 0, since the kernel of the
    last convolution is zero and it has no bias.
    """

    def __init__(self, vgg: VGG16):
        self.features = vgg.first(DEPTH)
        self.head = nnx.Conv(
            STAGES[DEPTH - 1][-1],
            1,
            (1, 1),
            use_bias=False,
            kernel_init=nnx.initializers.zeros,
            rngs=nnx.Rngs(0),  # required by the layer, unused by zeros
        )

    def __call__(self, images: Float[Array, "b h w 3"]) -> Float[Array, "b h//4 w//4"]:
        """Compute the logits of images in [-1, 1].

        Raises:
            ArrayError: if a side has fewer than 4 pixels.
        """
        return self.head(self.features(images)[-1])[..., 0]


def discriminator_loss(
    real_logits: Float[Array, "b h w"], fake_logits: Float[Array, "b h w"]
) -> Float[Array, ""]:
    """Compute the binary cross-entropy of real patches against 1 and decoded ones against 0.

    It is mean softplus(-D(x)) + mean softplus(D(x̂)), or 2·log 2 if all logits are 0.
    """
    real = sigmoid_binary_cross_entropy(real_logits, jnp.ones_like(real_logits))
    fake = sigmoid_binary_cross_entropy(fake_logits, jnp.zeros_like(fake_logits))
    return real.mean() + fake.mean()


def generator_loss(
    real_logits: Float[Array, "b h w"], fake_logits: Float[Array, "b h w"]
) -> Float[Array, ""]:
    """Compute the mean of relu(D(x) - D(x̂) - 0.1), which allows decoded patches to score 0.1 less.

    No gradient flows into the logits of the target, D(x).
    """
    return nnx.relu(jax.lax.stop_gradient(real_logits) - fake_logits - GENERATOR_MARGIN).mean()

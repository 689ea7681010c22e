"""AuraEquiVAE: an encoder and a decoder, in NHWC."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from aura_jax.arrays import check_array
from aura_jax.config import AuraConfig
from aura_jax.errors import AuraError
from aura_jax.latent_stats import LatentStats
from aura_jax.model.chains import Decoder, Encoder, clamp_latents
from aura_jax.model.layers import LayerOptions
from aura_jax.model.pretrained import Pretrained


class AuraEquiVAE(Pretrained, nnx.Module):
    """The autoencoder: `encoder` and `decoder` are the reference's networks, unclamped.

    Args:
        config: the sizes; the default is the published model.
        dtype: the dtype that convolutions and attention compute in, and of the results.
        param_dtype: the dtype that parameters are stored in.
        rngs: keys for the random initialization.

    Attributes:
        latent_stats: mean and standard deviation of each latent channel, as the checkpoint says;
            None if it has none. It may be set, and is saved with the model.
    """

    def __init__(
        self,
        config: AuraConfig = AuraConfig(),
        *,
        dtype: DTypeLike = jnp.float32,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        self.config = config
        self.latent_stats: LatentStats | None = None
        options = LayerOptions(
            dtype=jnp.dtype(dtype), param_dtype=jnp.dtype(param_dtype), rngs=rngs
        )
        self.encoder = Encoder(config, **options)
        self.decoder = Decoder(config, **options)

    def __repr__(self) -> str:
        """Describe the model in one line; `nnx.display` shows all layers."""
        leaves = jax.tree.leaves(nnx.state(self, nnx.Param))
        count = sum(math.prod(leaf.shape) for leaf in leaves)
        types = ", ".join(sorted({str(leaf.dtype) for leaf in leaves}))
        dtype = self.encoder.conv_in.dtype
        averaged = "equivariant, " if self.encoder.averaged else ""
        return (
            f"AuraEquiVAE({averaged}{self.config}, dtype={dtype}, {count:,} parameters in {types})"
        )

    def __str__(self) -> str:
        """Return the line of `repr`; that of `nnx.Module` has a thousand."""
        return repr(self)

    def encode(self, images: Array | np.ndarray) -> Float[Array, "b h w z"]:
        """Encode images [B, H, W, 3] in [-1, 1] to latents [B, H/8, W/8, 16], clamped to ±8.

        This is deterministic: there is no latent distribution, as diffusers' `latent_dist`.

        Sides that are not multiples of 8 lose their last pixels, as in the reference: see
        `aura_jax.encode`.

        Raises:
            ArrayError: if the array is not floating-point NHWC with sides of at least 8.
        """
        config = self.config
        check_array("images", images, config.in_channels, min_side=config.downsampling)
        return clamp_latents(self.encoder(jnp.asarray(images)))

    def decode(self, latents: Array | np.ndarray) -> Float[Array, "b h w c"]:
        """Decode latents [B, h, w, 16] to images [B, 8h, 8w, 3], about [-1, 1] and not clamped.

        Raises:
            ArrayError: if the array is not floating-point NHWC with 16 channels.
        """
        check_array("latents", latents, self.config.z_channels)
        return self.decoder(jnp.asarray(latents))


def equivariant(vae: AuraEquiVAE) -> AuraEquiVAE:
    """Make a model commute with the flips exactly, by averaging over them.

    Its decode(z) is the mean over the flips g of g⁻¹·decode(g·z), and its encode(x) that of
    g⁻¹·encode(g·x). So decode(g·z) = g·decode(z) and encode(g·x) = g·encode(x) up to rounding,
    where those of the given model may be only close; each call takes about four times as long and
    as much memory. Images whose sides are not multiples of 8 are cut to these first, at the right
    and bottom, so a flipped one loses other pixels.

    Args:
        vae: any model, which is not changed.

    Returns:
        A model that shares the parameters, for `encode`, `decode`, `Codec` and all that take a
        model. It cannot be saved, since files hold parameters alone: save the given model.

    Raises:
        AuraError: if this is not a model.
    """
    if not isinstance(vae, AuraEquiVAE):
        raise AuraError(f"equivariant(vae): expected an AuraEquiVAE, got a {type(vae).__name__}")
    averaged = nnx.merge(*nnx.split(vae))
    averaged.encoder.averaged = averaged.decoder.averaged = True
    return averaged

"""The function that a train step minimizes: a batch through encoder, noise, flips and decoder."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from aura_jax.errors import TrainingError
from aura_jax.model.autoencoder import AuraEquiVAE
from aura_jax.model.chains import clamp_latents
from aura_jax.model.parameters import Params, merge, split
from aura_jax.noise import perturb
from aura_jax.symmetry import Flips, flip_images, flip_latents, random_flips
from aura_jax.training.config import Recipe
from aura_jax.training.losses import IMAGE_LOSSES, Images, Scalar, gradnorm, l2, z_penalty
from aura_jax.training.networks.discriminator import (
    PatchDiscriminator,
    discriminator_loss,
    generator_loss,
)
from aura_jax.training.networks.lpips import LPIPS, Perceptual

type Latents = Float[Array, "b hz wz z"]


class Draws(NamedTuple):
    """The random draws of a step, one per sample, so that micro-batches do not change them."""

    noise: PRNGKeyArray
    flips: Flips


def draw(key: Array, batch: int, recipe: Recipe) -> Draws:
    """Draw the noise keys and the flips of a batch."""
    noise, flips = jax.random.split(key)
    return Draws(
        jax.random.split(noise, batch),
        random_flips(flips, batch, p_horizontal=recipe.p_horizontal, p_vertical=recipe.p_vertical),
    )


@dataclasses.dataclass(frozen=True)
class Objective:
    """The weighted sum of a recipe's losses.

    Besides the losses of `losses` and `networks` there is "encoder", the mean of
    (encode(g·x) - g·encode(x))², where g is the flip of each sample.

    Attributes:
        recipe: the recipe, with the losses, their weights and the noise.
        vae: the autoencoder.
        lpips: the perceptual distance, for the loss "lpips".
        discriminator: the patch discriminator, for the loss "gan".
    """

    recipe: Recipe
    vae: nnx.GraphDef[AuraEquiVAE]
    lpips: nnx.GraphDef[LPIPS] | None = None
    discriminator: nnx.GraphDef[PatchDiscriminator] | None = None

    def __call__(
        self,
        params: dict[str, Params],
        lpips: Params,
        images: Images,
        draws: Draws,
        step: Int[Array, ""],
    ) -> tuple[Scalar, dict[str, Scalar]]:
        """Compute the loss of a batch, and its unweighted terms by name.

        Args:
            params: the parameters of "vae" and, with the loss "gan", of "discriminator".
            lpips: parameters of the perceptual distance, which are not trained.
            images: [B, H, W, C] in [-1, 1].
            draws: the noise keys and flips.
            step: the number of the step, counted from 0.
        """
        vae = merge(self.vae, params["vae"])
        z, decoded, target = self._forward(vae, images, draws)
        terms = {"psnr": -10 * jnp.log10(l2(decoded, target) / 4)}
        total = jnp.zeros((), jnp.float32)
        latent_losses = {
            "z2": lambda: z_penalty(z),
            "encoder": lambda: l2(self._encode(vae, target), _flipped(z, draws)),
        }
        image_losses = self._image_losses(params, lpips)
        for name, weight in self.recipe.losses:
            if name in latent_losses:
                terms[name] = latent_losses[name]()
            else:
                terms[name] = image_losses[name](self._scaled(decoded, weight), target)
                weight = weight if self.recipe.gradnorm == "none" else 1.0
            active = name != "gan" or step >= self.recipe.gan_start
            total += jnp.where(active, weight * terms[name], 0.0)
        if self.discriminator is not None:
            judge = merge(self.discriminator, params["discriminator"])
            fake = judge(jax.lax.stop_gradient(decoded))
            terms["discriminator"] = discriminator_loss(judge(target), fake)
            total += terms["discriminator"]
        return total, terms

    def _forward(
        self, vae: AuraEquiVAE, images: Images, draws: Draws
    ) -> tuple[Latents, Images, Images]:
        """Return the latent, the image decoded from its noisy flip, and the flipped target."""
        z = self._encode(vae, images)
        if self.recipe.train == "decoder":
            z = jax.lax.stop_gradient(z)
        noisy = jax.vmap(perturb, (0, 0, None))(draws.noise, z, self.recipe.noise)
        decoded = vae.decoder(_flipped(noisy, draws), remat=self.recipe.remat)
        horizontal, vertical = draws.flips
        target = flip_images(images, horizontal=horizontal, vertical=vertical)
        return z, decoded.astype(jnp.float32), target

    def _encode(self, vae: AuraEquiVAE, images: Images) -> Latents:
        z = vae.encoder(images, remat=self.recipe.remat).astype(jnp.float32)
        return clamp_latents(z)

    def _scaled(self, decoded: Images, weight: float) -> Images:
        """Return the images, with a gradient that is normalized if the recipe asks for it."""
        over = self.recipe.gradnorm
        return decoded if over == "none" else gradnorm(decoded, weight, over)

    def _image_losses(
        self, params: dict[str, Params], lpips: Params
    ) -> dict[str, Callable[[Images, Images], Scalar]]:
        losses = dict(IMAGE_LOSSES)
        if self.lpips is not None:
            distance = merge(self.lpips, lpips)
            losses["lpips"] = lambda decoded, target: distance(decoded, target).mean()
        if self.discriminator is not None:
            judge = merge(self.discriminator, jax.lax.stop_gradient(params["discriminator"]))
            losses["gan"] = lambda decoded, target: generator_loss(judge(target), judge(decoded))
        return losses


def prepare(
    recipe: Recipe, vae: AuraEquiVAE, perceptual: Perceptual | None = None
) -> tuple[Objective, dict[str, Params], Params]:
    """Make a recipe's objective, its trainable parameters, and the frozen parameters of LPIPS.

    Raises:
        TrainingError: if a loss needs perceptual networks that are missing.
    """
    vgg = None if perceptual is None else perceptual.vgg
    distance = None if perceptual is None else perceptual.lpips
    for name, network in (("lpips", distance), ("gan", vgg)):
        if name in recipe.weights and network is None:
            raise TrainingError(f"the loss {name} needs perceptual weights")
    graph, vae_params = split(vae)
    params, frozen, lpips, judge = {"vae": vae_params}, {}, None, None
    if distance is not None and "lpips" in recipe.weights:
        lpips, frozen = split(distance)
    if vgg is not None and "gan" in recipe.weights:
        judge, params["discriminator"] = split(PatchDiscriminator(vgg))
    return Objective(recipe, graph, lpips, judge), params, frozen


def _flipped(z: Latents, draws: Draws) -> Latents:
    horizontal, vertical = draws.flips
    return flip_latents(z, horizontal=horizontal, vertical=vertical)

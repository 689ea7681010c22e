"""What a train step minimizes: one batch through encoder, noise, flips and decoder."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from aura_jax.errors import TrainingError
from aura_jax.model.autoencoder import AuraEquiVAE, clamp_latents
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
from aura_jax.training.params import Structure, Weights, take_apart


class Draws(NamedTuple):
    """The chance in a step, per sample, so that it is the same however a batch is split."""

    noise: PRNGKeyArray
    flips: Flips


def draw(key: Array, batch: int, recipe: Recipe) -> Draws:
    """The noise keys and flips of a batch."""
    noise, flips = jax.random.split(key)
    return Draws(
        jax.random.split(noise, batch),
        random_flips(flips, batch, p_horizontal=recipe.p_horizontal, p_vertical=recipe.p_vertical),
    )


@dataclasses.dataclass(frozen=True)
class Objective:
    """The weighted sum of a recipe's losses.

    Beyond those of `losses`, `perceptual` and `discriminator` there is "encoder", the mean of
    (encode(g·x) - g·encode(x))² for the flip g of each sample.

    Attributes:
        recipe: which losses, how strong, and the noise.
        vae: the autoencoder.
        lpips: the perceptual distance, for a loss "lpips".
        discriminator: what judges patches, for a loss "gan".
    """

    recipe: Recipe
    vae: Structure[AuraEquiVAE]
    lpips: Structure[LPIPS] | None = None
    discriminator: Structure[PatchDiscriminator] | None = None

    def __call__(
        self,
        weights: dict[str, Weights],
        lpips: Weights,
        images: Images,
        draws: Draws,
        step: Int[Array, ""],
    ) -> tuple[Scalar, dict[str, Scalar]]:
        """The loss of a batch, and its terms by name, unweighted.

        Args:
            weights: of "vae" and, with a loss "gan", "discriminator".
            lpips: weights of the perceptual distance, which are not trained.
            images: [B, H, W, C] in [-1, 1].
            draws: noise and flips.
            step: of the run, from 0.
        """
        vae = self.vae.assemble(weights["vae"])
        z, decoded, target = self._forward(vae, images, draws)
        terms = {"psnr": -10 * jnp.log10(l2(decoded, target) / 4)}
        total = jnp.zeros(())
        latent_losses = {
            "z2": lambda: z_penalty(z),
            "encoder": lambda: l2(self._encode(vae, target), _flipped(z, draws)),
        }
        image_losses = self._image_losses(weights, lpips)
        for name, weight in self.recipe.losses:
            if name in latent_losses:
                terms[name] = latent_losses[name]()
            else:
                terms[name] = image_losses[name](self._pulled(decoded, weight), target)
                weight = weight if self.recipe.gradnorm == "none" else 1.0
            active = name != "gan" or step >= self.recipe.gan_start
            total += jnp.where(active, weight * terms[name], 0.0)
        if self.discriminator is not None:
            judge = self.discriminator.assemble(weights["discriminator"])
            fake = judge(jax.lax.stop_gradient(decoded))
            terms["discriminator"] = discriminator_loss(judge(target), fake)
            total += terms["discriminator"]
        return total, terms

    def _forward(
        self, vae: AuraEquiVAE, images: Images, draws: Draws
    ) -> tuple[Float[Array, "b hz wz z"], Images, Images]:
        """The latent, what its noisy flip decodes to, and the flipped image that it should be."""
        z = self._encode(vae, images)
        if self.recipe.train == "decoder":
            z = jax.lax.stop_gradient(z)
        noisy = jax.vmap(perturb, (0, 0, None))(draws.noise, z, self.recipe.noise)
        decoded = vae.decoder(_flipped(noisy, draws), remat=self.recipe.remat)
        horizontal, vertical = draws.flips
        target = flip_images(images, horizontal=horizontal, vertical=vertical)
        return z, decoded.astype(jnp.float32), target

    def _encode(self, vae: AuraEquiVAE, images: Images) -> Float[Array, "b hz wz z"]:
        z = vae.encoder(images, remat=self.recipe.remat).astype(jnp.float32)
        return clamp_latents(z)

    def _pulled(self, decoded: Images, weight: float) -> Images:
        """The images, to whose gradients the recipe gives the loss's weight as their norm."""
        over = self.recipe.gradnorm
        return decoded if over == "none" else gradnorm(decoded, weight, over)

    def _image_losses(
        self, weights: dict[str, Weights], lpips: Weights
    ) -> dict[str, Callable[[Images, Images], Scalar]]:
        losses = dict(IMAGE_LOSSES)
        if self.lpips is not None:
            distance = self.lpips.assemble(lpips)
            losses["lpips"] = lambda decoded, target: distance(decoded, target).mean()
        if self.discriminator is not None:
            judge = self.discriminator.assemble(jax.lax.stop_gradient(weights["discriminator"]))
            losses["gan"] = lambda decoded, target: generator_loss(judge(target), judge(decoded))
        return losses


def prepare(
    recipe: Recipe, vae: AuraEquiVAE, perceptual: Perceptual | None = None
) -> tuple[Objective, dict[str, Weights], Weights]:
    """The objective of a recipe, the weights it trains, and those of LPIPS, which it does not.

    Raises:
        TrainingError: if a loss needs perceptual weights that are not there.
    """
    vgg = None if perceptual is None else perceptual.vgg
    distance = None if perceptual is None else perceptual.lpips
    for name, network in (("lpips", distance), ("gan", vgg)):
        if name in recipe.weights and network is None:
            raise TrainingError(f"the loss {name} needs perceptual weights")
    structure, vae_weights = take_apart(vae)
    weights, frozen, lpips, judge = {"vae": vae_weights}, {}, None, None
    if distance is not None and "lpips" in recipe.weights:
        lpips, frozen = take_apart(distance)
    if vgg is not None and "gan" in recipe.weights:
        judge, weights["discriminator"] = take_apart(PatchDiscriminator(vgg))
    return Objective(recipe, structure, lpips, judge), weights, frozen


def _flipped(z: Float[Array, "b hz wz z"], draws: Draws) -> Float[Array, "b h w z"]:
    horizontal, vertical = draws.flips
    return flip_latents(z, horizontal=horizontal, vertical=vertical)

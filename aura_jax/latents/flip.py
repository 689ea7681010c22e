"""Random flips of cached samples, for Grain and any loader of numpy samples."""

import dataclasses
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from aura_jax.errors import AuraError
from aura_jax.latents.serialize import CROP, LATENT, Sample
from aura_jax.symmetry import flip_latents

if TYPE_CHECKING:
    from grain.transforms import RandomMap
else:
    RandomMap = object  # importable without Grain; see `_register`


@dataclasses.dataclass(frozen=True)
class RandomFlip(RandomMap):
    """A transform that flips a sample's latent at random, as if its image had been flipped.

        dataset.random_map(RandomFlip())

    It needs neither weights nor JAX nor Grain: in other loaders call `RandomFlip()(sample, rng)`.
    If Grain was imported before it is made, it is a `grain.transforms.RandomMap`, which
    `grain.DataLoader` requires. In a jitted train step use `aura_jax.random_flips` and
    `aura_jax.flip_latents` instead.

    Attributes:
        p_horizontal: probability of a horizontal flip.
        p_vertical: probability of a vertical flip.

    Raises:
        AuraError: if a probability is not from 0 to 1.
    """

    p_horizontal: float = 0.5
    p_vertical: float = 0.0

    def __post_init__(self) -> None:
        for name in ("p_horizontal", "p_vertical"):
            if not 0 <= getattr(self, name) <= 1:
                raise AuraError(f"{name}={getattr(self, name)}: expected a probability, 0 to 1")
        _register()

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Any:
        """Flip the "latent" [h, w, 16] of a sample at random, and its "crop" if it has one.

        Args:
            sample: a dictionary with a numpy array "latent", of any stored dtype, normalized or
                not.
            rng: the generator to draw two numbers from.

        Raises:
            AuraError: if "latent" is not one latent, such as a whole batch, or "crop" is not four
                numbers.
        """
        latent = sample[LATENT]
        if not isinstance(latent, np.ndarray) or latent.ndim != 3:
            kind = f"{type(latent).__name__} of shape {getattr(latent, 'shape', None)}"
            raise AuraError(f"{kind}: expected a numpy array [h, w, 16]; flip before batching")
        horizontal, vertical = (
            bool(rng.random() < p) for p in (self.p_horizontal, self.p_vertical)
        )
        flipped = {LATENT: flip_latents(latent, horizontal=horizontal, vertical=vertical)}
        if CROP in sample:
            margins = np.asarray(sample[CROP])
            if margins.shape != (4,):
                raise AuraError(f"crop {sample[CROP]!r}: expected [top, left, bottom, right]")
            order = [2 * vertical, 1 + 2 * horizontal, 2 - 2 * vertical, 3 - 2 * horizontal]
            flipped[CROP] = margins[order]
        return {**sample, **flipped}

    def random_map(self, element: Sample, rng: np.random.Generator) -> Any:
        """Call the transform; Grain's DataLoader uses this name."""
        return self(element, rng)

    def __reduce__(self) -> tuple[type, tuple[float, float]]:
        return type(self), (self.p_horizontal, self.p_vertical)  # so that workers register too


def _register() -> None:
    """Register RandomFlip as a Grain transform, if Grain is imported: importing it needs JAX."""
    if grain := sys.modules.get("grain"):
        grain.transforms.RandomMap.register(RandomFlip)

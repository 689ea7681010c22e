"""Random flips of samples, for Grain and for any loader of numpy samples."""

import dataclasses
from typing import Any

import numpy as np

from aura_jax.errors import AuraError
from aura_jax.extras import needs
from aura_jax.latents.serialize import LATENT, Sample
from aura_jax.symmetry import flip_latents

with needs("cache"):
    import grain


@dataclasses.dataclass(frozen=True)
class RandomFlip(grain.transforms.RandomMap):
    """Flips the latent of a sample at random, as if its picture had been flipped and cached.

        dataset.random_map(RandomFlip())

    It needs neither weights nor jax: `RandomFlip().random_map(sample, rng)` does the same in any
    loader. Within a jitted train step take `aura_jax.random_flips` and `aura_jax.flip_latents`.

    Attributes:
        p_h: probability of a horizontal flip.
        p_v: probability of a vertical flip.
    """

    p_h: float = 0.5
    p_v: float = 0.0

    def __post_init__(self) -> None:
        for name in ("p_h", "p_v"):
            if not 0 <= getattr(self, name) <= 1:
                raise AuraError(f"{name}={getattr(self, name)}: expected a probability, 0 to 1")

    def random_map(self, element: Sample, rng: np.random.Generator) -> Any:
        """The sample with its "latent" [h, w, 16] flipped or not; other entries stay.

        Args:
            element: a sample with a numpy array "latent", of any stored type, normalized or not.
            rng: draws two numbers.

        Raises:
            AuraError: if "latent" is not one latent, such as a whole batch.
        """
        latent = element[LATENT]
        if not isinstance(latent, np.ndarray) or latent.ndim != 3:
            kind = f"{type(latent).__name__} of shape {getattr(latent, 'shape', None)}"
            raise AuraError(f"{kind}: expected a numpy array [h, w, 16]; flip before batching")
        horizontal, vertical = (bool(rng.random() < p) for p in (self.p_h, self.p_v))
        flipped = flip_latents(latent, horizontal=horizontal, vertical=vertical)
        return {**element, LATENT: flipped}

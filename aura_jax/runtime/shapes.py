"""The shapes that a codec was warmed up for."""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager

import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from aura_jax.arrays import Shape, Size
from aura_jax.errors import ArrayError


@dataclasses.dataclass
class Shapes:
    """Batches (B, H, W) of images that smaller batches are padded to.

    Attributes:
        declared: the batches.
        guarded: whether other shapes are refused.
    """

    declared: set[tuple[int, int, int]] = dataclasses.field(default_factory=set)
    guarded: bool = False

    @contextmanager
    def declaring(self, batch: tuple[int, int, int]) -> Iterator[None]:
        """Declare a batch for the block that runs it first, and keep it unless that is refused."""
        self.declared.add(batch)  # before the block, which would pad to a larger one
        try:
            yield
        except ArrayError:
            self.declared.discard(batch)
            raise

    def padded(
        self, x: Array | np.ndarray, sides: tuple[int, int], scale: int, batch: Size
    ) -> Array | np.ndarray:
        """Pad a batch with zeros to the smallest declared size that holds it.

        Args:
            x: images or latents.
            sides: their height and width, or those of their bucket.
            scale: image pixels along each side of a pixel of x: 1 for images.
            batch: the size to pad to if none is declared.
        """
        if isinstance(x, jax.core.Tracer):
            return x
        fitting = [
            batch
            for batch, height, width in self.declared
            if batch >= len(x) and (height // scale, width // scale) == sides
        ]
        missing = min(fitting, default=batch) - len(x)
        if not missing:
            return x
        pad = np.pad if isinstance(x, np.ndarray) else jnp.pad
        return pad(x, ((0, missing), (0, 0), (0, 0), (0, 0)))

    def batch(self, sides: tuple[int, int], scale: int) -> int:
        """Return the largest declared batch of a size, and 1 if there is none.

        Args:
            sides: height and width of images or latents.
            scale: as for `padded`.
        """
        height, width = (scale * side for side in sides)
        return max((b for b, *size in self.declared if size == [height, width]), default=1)

    def check(self, name: str, shape: Shape, compiled: list[Shape]) -> None:
        """Check that the guard allows a shape.

        Raises:
            ArrayError: if it would compile.
        """
        if self.guarded and shape not in compiled:
            known = ", ".join(map(str, compiled))
            raise ArrayError(
                f"{name} of shape {shape}: would compile, but the guard of warmup allows "
                f"only {known}; warm up this shape too, or without the guard"
            )

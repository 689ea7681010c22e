"""The sizes that a codec pads images to, so that it compiles one program for many sizes."""

import itertools
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from aura_jax.errors import ArrayError

type Sides = tuple[int, int]  # height and width


class Buckets:
    """Heights and widths of images, from which each image gets the smallest that holds it.

    Args:
        sizes: pairs (height, width) in pixels.
        multiple: what sides must be multiples of: the model's downsampling.

    Raises:
        ArrayError: if there are none, or one is not such a pair.
    """

    def __init__(self, sizes: Iterable[Sequence[int]], multiple: int):
        if not isinstance(sizes, Iterable) or not (given := [*sizes]):
            raise ArrayError(f"buckets {sizes!r}: expected sizes, such as [(256, 256)]")
        self.sizes = sorted({_checked(size, multiple) for size in given}, key=np.prod)

    def holding(self, name: str, sides: Sides, scale: int) -> Sides:
        """Return the smallest bucket for images or latents of a size, in their own pixels.

        Args:
            name: the array's name, for the message.
            sides: height and width.
            scale: image pixels along each side of one of their pixels: 1 for images.

        Raises:
            ArrayError: if all are too small.
        """
        for height, width in self.sizes:
            bucket = height // scale, width // scale
            if sides[0] <= bucket[0] and sides[1] <= bucket[1]:
                return bucket
        known = ", ".join(f"{h // scale} × {w // scale}" for h, w in self.sizes)
        raise ArrayError(
            f"{name} of {sides[0]} × {sides[1]}: larger than every bucket of this codec, {known}"
        )


def marked(images: Sequence[Array | np.ndarray], bucket: Sides) -> Array | np.ndarray:
    """Stack arrays [h, w, C] in the upper left corners of a batch [B, H + 1, W + 1, C].

    The last column marks their rows, and the last row their columns: both are above 0 there, also
    after 8-bit levels are converted to [-1, 1]. Such a batch is copied faster than one with a
    channel of marks, which would move each pixel.
    """
    padded = []
    for x in images:
        height, width, channels = x.shape
        whole = np.zeros((bucket[0] + 1, bucket[1] + 1, channels), x.dtype)
        whole[:height, -1] = whole[-1, :width] = 255 if x.dtype == np.uint8 else 1
        if isinstance(x, jax.core.Tracer):
            padded.append(jnp.asarray(whole).at[:height, :width].set(x))
        else:
            whole[:height, :width] = x
            padded.append(whole)
    return jnp.stack(padded) if isinstance(padded[0], jax.core.Tracer) else np.stack(padded)


def cut(x: Array | np.ndarray, sides: Sides, bucket: Sides) -> Any:
    """Cut what images or latents became in a bucket out of the upper left corner of a result.

    Args:
        x: [H2, W2, C], the result for the whole bucket.
        sides: their height and width before.
        bucket: the bucket's.
    """
    height, width = (n * of // whole for n, of, whole in zip(sides, x.shape, bucket, strict=False))
    return x[:height, :width]


def batches(buckets: Sequence[Sides], largest: Callable[[Sides], int]) -> list[list[int]]:
    """Divide a list into batches of one bucket each.

    Args:
        buckets: that of each element.
        largest: the number of elements in a batch of a bucket.

    Returns:
        The indices of the elements of each batch.
    """
    members: dict[Sides, list[int]] = {}
    for index, bucket in enumerate(buckets):
        members.setdefault(bucket, []).append(index)
    return [
        [*batch]
        for bucket, indices in members.items()
        for batch in itertools.batched(indices, largest(bucket))
    ]


def _checked(size: Sequence[int], multiple: int) -> Sides:
    try:
        height, width = map(operator.index, size)  # numpy's integers too
    except (TypeError, ValueError):
        height = width = 0
    if min(height, width) < 1 or height % multiple or width % multiple:
        raise ArrayError(
            f"bucket {size!r}: expected a height and a width that are multiples of {multiple}"
        )
    return height, width

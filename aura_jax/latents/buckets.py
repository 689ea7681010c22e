"""The sizes of a cache with several aspect ratios, its buckets, and the choice of one for an image.

Trainers of kohya and SimpleTuner know such buckets: all have about the same area, and sides that
are multiples of one step.
"""

import itertools
import re
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from aura_jax.errors import CacheError, ImageError

MULTIPLE = 64  # of the side of an area
LARGEST_STEP = 64  # between the sides of buckets, in pixels: that of kohya's trainer and SDXL
LARGEST_RATIO = 4  # of a bucket's longer side to its shorter one
LARGEST_CUT = 2  # an image is skipped if less than 1/2 of it would be left


class Bucket(NamedTuple):
    """The height and width of images in pixels; as text, 320x192 is wider than high."""

    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"

    @classmethod
    def parse(cls, text: str) -> "Bucket":
        """Parse a text such as 320x192, the width and the height.

        Raises:
            CacheError: if the text is not WIDTHxHEIGHT with numbers of 1 or more.
        """
        match = re.fullmatch(r"(\d{1,9})x(\d{1,9})", text, re.ASCII)
        if match is None or 0 in (int(match[1]), int(match[2])):
            raise CacheError(f"--bucket {text}: expected WIDTHxHEIGHT in pixels, such as 320x192")
        return cls(int(match[2]), int(match[1]))


def of_area(side: int) -> tuple[Bucket, ...]:
    """List the buckets whose area is that of a square, or a little less.

    Their sides are multiples of a step: an eighth of the square's side, or 64 pixels if that is
    less. For each width there is the largest height within the area; and each bucket is there
    upright too. The longer side is at most 4 times the shorter one.

    Args:
        side: the square's side in pixels, a multiple of 64.

    Raises:
        CacheError: if it is not.
    """
    if side < MULTIPLE or side % MULTIPLE:
        raise CacheError(
            f"--area {side}: expected the side of a square in pixels, a multiple of {MULTIPLE}"
        )
    step = min(LARGEST_STEP, side // 8)
    found = set()
    for width in range(step, side * LARGEST_RATIO, step):
        height = side**2 // width // step * step
        if height and max(height, width) <= LARGEST_RATIO * min(height, width):
            found |= {Bucket(height, width), Bucket(width, height)}
    return tuple(sorted(found, key=lambda bucket: (bucket.width, bucket.height)))


def nearest(buckets: Sequence[Bucket], image: Bucket) -> Bucket:
    """Return the bucket whose ratio of width to height is nearest to an image's.

    Ratios are near if their quotient is near 1. Of equally near buckets the one with the largest
    area is chosen, and of these the widest.

    Args:
        buckets: the buckets.
        image: the size of the image.

    Raises:
        ImageError: if less than half of the image would be left in it.
    """
    cut, _, best = min(
        (_cut(bucket, image), -bucket.height * bucket.width, bucket) for bucket in buckets
    )
    if cut > LARGEST_CUT:
        raise ImageError(
            f"of {image.width} x {image.height} pixels: the bucket with the nearest ratio, {best}, "
            "would leave less than half of it"
        )
    return best


def check_buckets(buckets: Sequence[Bucket], multiple: int) -> None:
    """Check that buckets differ, and that their sides are multiples of the model's downsampling.

    Raises:
        CacheError: if they are not.
    """
    for bucket in buckets:
        if min(bucket) < 1 or any(side % multiple for side in bucket):
            raise CacheError(f"--bucket {bucket}: expected positive multiples of {multiple}")
    for first, second in itertools.pairwise(sorted(buckets)):
        if first == second:
            raise CacheError(f"--bucket {first}: given twice")


def _cut(bucket: Bucket, image: Bucket) -> Fraction:
    """Return how many times an image is as large as the part that fills a bucket; exactly."""
    one, other = bucket.width * image.height, bucket.height * image.width
    return Fraction(max(one, other), min(one, other))

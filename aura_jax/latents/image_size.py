"""Choose the size of the images that the model encodes."""

from collections.abc import Sequence

from aura_jax.config import AuraConfig
from aura_jax.errors import CacheError, ImageError, first_of
from aura_jax.images.io import decode_8_bit
from aura_jax.images.options import Decoding
from aura_jax.latents.buckets import Bucket, check_buckets
from aura_jax.latents.examples import ShardInput
from aura_jax.latents.spec import TO_BUCKET, TO_SQUARE, Resize


def image_size(
    size: int | None,
    buckets: Sequence[Bucket],
    config: AuraConfig,
    shards: Sequence[ShardInput],
    decoding: Decoding,
) -> tuple[int | None, int | None, Resize | None]:
    """Choose the height and width of all images, None with buckets, and how they get them.

    Args:
        size: the side of a square, if images are cut to it.
        buckets: the sizes that images are cut to instead, if any.
        config: the sizes of the model.
        shards: the image files, the first of which gives the size if they are kept unchanged.
        decoding: how image files are decoded.

    Raises:
        CacheError: if both are given, a size does not fit the model, or no image can be read.
    """
    if buckets:
        if size is not None:
            raise CacheError(f"--size {size}: cannot be combined with buckets of other sizes")
        check_buckets(buckets, config.downsampling)
        return None, None, TO_BUCKET
    height, width = _first_size(shards, decoding) if size is None else (size, size)
    multiple = config.downsampling
    if min(height, width) < 1 or height % multiple or width % multiple:
        if size is not None:
            raise CacheError(f"--size {size}: expected a positive multiple of {multiple}")
        raise CacheError(
            f"images of {width} x {height}: expected multiples of {multiple}; give --size"
        )
    return height, width, None if size is None else TO_SQUARE


def _first_size(shards: Sequence[ShardInput], decoding: Decoding) -> tuple[int, int]:
    """Return the height and width of the first image that can be read."""
    reasons = []
    for example in (example for shard in shards for example in shard.examples):
        try:
            width, height = decode_8_bit(example.image.read(), example.key, decoding).size
        except ImageError as error:
            reasons.append(str(error))
        else:
            return height, width
    raise CacheError(f"none of the images can be read; {first_of(reasons)}")

"""The spec of a cache: one typed value in the command, in the library and in the manifest."""

import dataclasses
import re
from typing import Literal

import numpy as np

from aura_jax.config import LATENT_LIMIT, AuraConfig
from aura_jax.dtypes import FLOAT32, as_dtype
from aura_jax.errors import CacheError
from aura_jax.images.options import MAX_PIXELS, Decoding
from aura_jax.latents.buckets import Bucket
from aura_jax.latents.choices import COMPUTE_NAMES, STORAGE_NAMES, Format

type Resize = Literal[
    "largest centered square, Lanczos", "largest centered part of the bucket's ratio, Lanczos"
]
type Colors = Literal["converted to sRGB", "as stored"]

INT8 = np.dtype(np.int8)
STORAGE_DTYPES, COMPUTE_DTYPES = (
    tuple(map(np.dtype, names)) for names in (STORAGE_NAMES, COMPUTE_NAMES)
)
ENDINGS: dict[Format, str] = {"arrayrecord": ".arrayrecord", "webdataset": ".tar"}
SHARD_FILE = re.compile(
    rf"(?P<index>\d{{5,9}})(-\d+x\d+)?({'|'.join(map(re.escape, ENDINGS.values()))})", re.ASCII
)
TO_SQUARE: Resize = "largest centered square, Lanczos"
TO_BUCKET: Resize = "largest centered part of the bucket's ratio, Lanczos"
CONVERTED: Colors = "converted to sRGB"
AS_STORED: Colors = "as stored"
LONGEST = 2**31 - 1  # side of an image in pixels: sizes are int32
# Increase it when a change of the code makes the same images, weights and options give different
# latents or files (for example, a new treatment of transparency), so that old caches do not resume.
ENCODING = 2


@dataclasses.dataclass(frozen=True)
class CacheSpec:
    """Everything that determines the contents of a cache: equal specs give equal latents.

    Attributes:
        weights: the checkpoint's sha256.
        config: the sizes of its model.
        height: the height in pixels of the images that the model encodes, if all have one size.
        width: their width in pixels.
        resize: how images are brought to that size; None if all must have it already.
        storage_dtype: the dtype that latents are stored in.
        compute_dtype: the dtype that the model computes in.
        format: the file format of the shards.
        per_shard: the number of image files of a folder in each shard; each tar makes one.
        images: the number of examples.
        keys: a checksum of their keys.
        sizes: a checksum of the sizes of their files.
        clamp: the limit of latents on both sides of zero.
        encoding: the version of the code that turns image files into shards.
        prefix_keys: whether keys from tars begin with the tar's name.
        colors: whether ICC profiles were applied. Caches without this entry were made before that.
        max_pixels: the largest number of pixels of an image; those with more are skipped.
        equivariant: whether the model is averaged over the flips.
        buckets: the sizes of the images that the model encodes, sorted, if they have several.

    Raises:
        AuraError: if a dtype is not supported, a count is less than 1, or there is no size.
    """

    weights: str
    config: AuraConfig
    height: int | None
    width: int | None
    resize: Resize | None
    storage_dtype: np.dtype
    compute_dtype: np.dtype
    format: Format
    per_shard: int
    images: int
    keys: str
    sizes: str
    clamp: float = LATENT_LIMIT
    encoding: int = ENCODING
    prefix_keys: bool = False
    colors: Colors = AS_STORED
    max_pixels: int = MAX_PIXELS
    equivariant: bool = False
    buckets: tuple[Bucket, ...] = ()

    def __post_init__(self) -> None:
        as_dtype(self.storage_dtype, STORAGE_DTYPES, name="storage_dtype")
        as_dtype(self.compute_dtype, COMPUTE_DTYPES, name="compute_dtype")
        sides = () if self.buckets else ("height", "width")
        for name in (*sides, "per_shard", "images"):
            count = getattr(self, name)
            if count is None or count < 1:
                raise CacheError(f"{name} is {count}: expected 1 or more")
        if self.buckets and (self.height, self.width) != (None, None):
            raise CacheError("a height or width beside buckets, which have their own")
        for size in self.image_sizes:
            if not 1 <= min(size) <= max(size) <= LONGEST:
                raise CacheError(f"images of {size}: expected sides from 1 to {LONGEST}")

    @property
    def precision(self) -> Literal["highest", "fast"]:
        """The codec's precision: "fast" unless float32 storage would show its larger errors."""
        return "highest" if self.storage_dtype == FLOAT32 else "fast"

    @property
    def decoding(self) -> Decoding:
        """How image files are decoded."""
        return Decoding(self.max_pixels, raw_colors=self.colors == AS_STORED)

    @property
    def image_sizes(self) -> tuple[Bucket, ...]:
        """The sizes of the images that the model encodes: the buckets, or the one size."""
        if self.height is None or self.width is None:
            return self.buckets
        return (Bucket(self.height, self.width),)

    def latent_shape(self, size: Bucket) -> tuple[int, int, int]:
        """Return the shape [h, w, C] of the latents of images of a size."""
        scale = self.config.downsampling
        return size.height // scale, size.width // scale, self.config.z_channels

    def file(self, index: int, size: Bucket) -> str:
        """Return the name of a file of latents, which SHARD_FILE matches.

        Args:
            index: the number of the tar or group of files that its images come from.
            size: the size of its images.
        """
        bucket = f"-{size}" if self.buckets else ""
        return f"{index:05}{bucket}{ENDINGS[self.format]}"

"""The spec of a cache: one typed value in the command, in the library and in the manifest."""

import dataclasses
import re
from typing import Literal

import numpy as np

from aura_jax.config import LATENT_LIMIT, AuraConfig
from aura_jax.dtypes import FLOAT32, as_dtype
from aura_jax.errors import CacheError
from aura_jax.images.options import MAX_PIXELS, Decoding
from aura_jax.latents.choices import COMPUTE_NAMES, STORAGE_NAMES, Format

type Resize = Literal["largest centered square, Lanczos"]
type Colors = Literal["converted to sRGB", "as stored"]

INT8 = np.dtype(np.int8)
STORAGE_DTYPES, COMPUTE_DTYPES = (
    tuple(map(np.dtype, names)) for names in (STORAGE_NAMES, COMPUTE_NAMES)
)
ENDINGS: dict[Format, str] = {"arrayrecord": ".arrayrecord", "webdataset": ".tar"}
SHARD_FILE = re.compile(rf"\d{{5,}}({'|'.join(map(re.escape, ENDINGS.values()))})", re.ASCII)
RESIZE: Resize = "largest centered square, Lanczos"
CONVERTED: Colors = "converted to sRGB"
AS_STORED: Colors = "as stored"
# Increase it when a change of the code makes the same images, weights and options give different
# latents or files (for example, a new treatment of transparency), so that old caches do not resume.
ENCODING = 2


@dataclasses.dataclass(frozen=True)
class CacheSpec:
    """Everything that determines the contents of a cache: equal specs give equal latents.

    Attributes:
        weights: the checkpoint's sha256.
        config: the sizes of its model.
        height: the height in pixels of the images that the model encodes.
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

    Raises:
        AuraError: if a dtype is not supported, or a count is less than 1.
    """

    weights: str
    config: AuraConfig
    height: int
    width: int
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

    def __post_init__(self) -> None:
        as_dtype(self.storage_dtype, STORAGE_DTYPES, name="storage_dtype")
        as_dtype(self.compute_dtype, COMPUTE_DTYPES, name="compute_dtype")
        counts = {name: getattr(self, name) for name in ("height", "width", "per_shard", "images")}
        for name, count in counts.items():
            if count < 1:
                raise CacheError(f"{name} is {count}: expected 1 or more")

    @property
    def precision(self) -> Literal["highest", "fast"]:
        """The codec's precision: "fast" unless float32 storage would show its larger errors."""
        return "highest" if self.storage_dtype == FLOAT32 else "fast"

    @property
    def decoding(self) -> Decoding:
        """How image files are decoded."""
        return Decoding(self.max_pixels, raw_colors=self.colors == AS_STORED)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """The shape [h, w, C] of each latent."""
        scale = self.config.downsampling
        return self.height // scale, self.width // scale, self.config.z_channels

    def file(self, index: int) -> str:
        """Return the file name of the shard with this number, which SHARD_FILE matches."""
        return f"{index:05}{ENDINGS[self.format]}"

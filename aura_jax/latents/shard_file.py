"""A file of latents of one size, while it is written."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from aura_jax.config import LATENT_LIMIT
from aura_jax.errors import CacheError
from aura_jax.files import replacing
from aura_jax.latents.quantize import quantize
from aura_jax.latents.shard_io import Write, checksum, records, writing
from aura_jax.latents.spec import CacheSpec


class ShardFile:
    """A file that latents are appended to.

    Args:
        write: appends a quantized latent and its key and labels.
        storage_dtype: the dtype that latents are stored in.

    Attributes:
        count: the number of latents.
        clamped: the number of their values that were clamped to the limit of ±8.
        bytes: the file's size, once it is complete.
        sha256: its checksum, once it is complete.
    """

    def __init__(self, write: Write, storage_dtype: np.dtype):
        self._write, self._storage_dtype = write, storage_dtype
        self.count = self.clamped = self.bytes = 0
        self.sha256 = ""

    def add(self, latents: Float[np.ndarray, "b h w c"], abouts: Sequence[dict[str, Any]]) -> None:
        """Append a batch of latents with their other entries."""
        for about, latent in zip(abouts, latents, strict=True):
            self._write(quantize(latent, self._storage_dtype), about)
        self.count += len(latents)
        self.clamped += int((np.abs(latents) >= LATENT_LIMIT).sum())

    def complete(self, temporary: Path) -> None:
        """Record the size and checksum of the file."""
        self.bytes, self.sha256 = temporary.stat().st_size, checksum(temporary)


@contextmanager
def writing_shard(path: Path, spec: CacheSpec) -> Iterator[ShardFile]:
    """Yield a new file, which appears at a path when the block succeeds.

    Raises:
        AuraError: if it cannot be written.
    """
    with replacing(path) as temporary:
        with writing(temporary, spec.format) as write:
            file = ShardFile(write, spec.storage_dtype)
            yield file
        if len(records(temporary, spec.format)) != file.count:
            raise CacheError(f"{path}: was not written whole; is the disk full?")
        file.complete(temporary)

"""Read the samples of a cache by number."""

import bisect
import operator
from collections.abc import Callable, Iterator
from functools import cached_property, lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np
from jaxtyping import Int32

from aura_jax.errors import CacheError, counted
from aura_jax.latent_stats import LatentStats
from aura_jax.latents.manifest import Manifest, read_manifest
from aura_jax.latents.serialize import Sample, from_bytes, parse
from aura_jax.latents.shard_io import Records, records
from aura_jax.latents.statistics import Statistics

OPEN_FILES = 512  # at a time; the usual limit for a process is 1024


class LatentSource:
    """A data set of the samples of a finished cache, for Grain, PyTorch and other loaders.

        source = LatentSource("latents/")
        grain.MapDataset.source(source).seed(0).shuffle().random_map(RandomFlip()).batch(256)

    Each sample is a dictionary of "latent", [h, w, 16] float32 within ±8; "key", the name of its
    image; "label", if it has one; and "cls", "json" and "txt", if its tar has these files. Samples
    of a cache with buckets also have the arrays "size", "original_size" and "crop", see
    `from_bytes`; `BucketBatches` forms batches of one size from them.

    Files are opened on their first use, in every process that a source is pickled to.

    Args:
        folder: the `--out` of `aura-jax cache make`.

    Raises:
        CacheError: if the folder has no finished cache, or its version is not supported.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder).absolute()  # for processes that run elsewhere
        self.manifest: Manifest = read_manifest(self.folder)
        self._ends = [*accumulate(shard.count for shard in self.manifest.shards)]
        self._open = lru_cache(OPEN_FILES)(self._opened)

    def __len__(self) -> int:
        return len(self.manifest)

    def __getitem__(self, index: SupportsIndex) -> Sample:
        """Read a sample by its number.

        Raises:
            IndexError: if there is no such number.
            TypeError: if it is not an integer, such as a slice.
            CacheError: if it cannot be read, for example because the file is truncated.
        """
        return self._read(index, from_bytes)

    def __iter__(self) -> Iterator[Sample]:
        return map(self.__getitem__, range(len(self)))

    def stored(self, index: SupportsIndex) -> tuple[np.ndarray, dict[str, Any]]:
        """Read the latent of a sample in its storage dtype, and the sample's other entries.

        Raises:
            IndexError, TypeError, CacheError: as indexing.
        """
        return self._read(index, parse)

    @property
    def sizes(self) -> Int32[np.ndarray, "n 2"]:
        """The height and width in pixels of the image of each sample, read from the manifest.

        Raises:
            CacheError: if the manifest is damaged, and counts more latents than images.
        """
        return self._sizes

    @cached_property
    def _sizes(self) -> Int32[np.ndarray, "n 2"]:
        shards, images = self.manifest.shards, self.manifest.spec.images
        if len(self.manifest) > images:  # there may not be memory for so many
            raise CacheError(
                f"{self.folder}: its manifest counts {len(self.manifest)} latents of {images} "
                f"images; aura-jax cache verify {self.folder} finds all that is damaged"
            )
        sizes = np.array([self.manifest.size_of(shard) for shard in shards], np.int32)
        return sizes.reshape(-1, 2).repeat([shard.count for shard in shards], axis=0)

    @property
    def statistics(self) -> Statistics:
        """The statistics of the latents, which commute with the flips.

        Raises:
            CacheError: if `aura-jax cache stats` has not been run.
        """
        if self.manifest.statistics is None:
            raise CacheError(f"{self.folder}: no statistics yet; run aura-jax cache stats on it")
        return self.manifest.statistics

    @property
    def latent_stats(self) -> LatentStats:
        """The statistics for a model whose latents these are, with how they were measured.

            vae.latent_stats = source.latent_stats

        Raises:
            CacheError: if `aura-jax cache stats` has not been run.
        """
        found, spec, environment = self.statistics, self.manifest.spec, self.manifest.environment
        resize = f" ({spec.resize})" if spec.resize else ""
        sizes = [each for each, count in self.manifest.buckets.items() if count]
        size = f"{sizes[0].width} x {sizes[0].height}" if len(sizes) == 1 else f"{len(sizes)} sizes"
        return LatentStats(
            found.mean,
            found.std,
            f"{counted(found.count, 'image')} of {size}{resize}, encoded in "
            f"{spec.compute_dtype} and stored in {spec.storage_dtype}; mean and standard deviation "
            f"over all pixels of each latent and its three flips; aura-jax {environment.aura_jax}",
        )

    @property
    def classes(self) -> tuple[str, ...]:
        """The folder names that serve as labels, sorted; `classes.index(label)` numbers them."""
        return self.manifest.classes

    def __repr__(self) -> str:
        return f"LatentSource({str(self.folder)!r})"

    def __getstate__(self) -> dict[str, Any]:
        made_again = ("_open", "_sizes")
        return {name: value for name, value in self.__dict__.items() if name not in made_again}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        self._open = lru_cache(OPEN_FILES)(self._opened)

    def _opened(self, path: Path) -> Records:
        return records(path, self.manifest.spec.format)

    def _read[T](self, index: SupportsIndex, decode: Callable[[bytes], T]) -> T:
        place = operator.index(index)
        place += len(self) if place < 0 else 0
        if not 0 <= place < len(self):
            raise IndexError(f"sample {index}: the cache holds {len(self)}")
        number = bisect.bisect_right(self._ends, place)
        record = place - (self._ends[number - 1] if number else 0)
        path = self.folder / self.manifest.shards[number].file
        try:
            return decode(self._open(path)[record])
        except Exception as error:  # ArrayRecord raises errors of many types
            raise CacheError(
                f"{path}, record {record}: cannot be read "
                f"({str(error).removeprefix(f'{path}: ')}); "
                f"aura-jax cache verify {self.folder} finds all that is damaged"
            ) from None

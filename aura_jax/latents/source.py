"""Reading a cache: its samples by number."""

import bisect
import os
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np

from aura_jax.errors import CacheError
from aura_jax.latents.manifest import Manifest, read_manifest
from aura_jax.latents.serialize import Sample, from_bytes, parse
from aura_jax.latents.shard_io import Records, records
from aura_jax.latents.statistics import Statistics

OPEN_FILES = 512  # at a time; a process may often have 1024


class LatentSource:
    """The samples of a finished cache, by number: a data set for Grain, PyTorch and others.

        source = LatentSource("latents/")
        grain.MapDataset.source(source).seed(0).shuffle().random_map(RandomFlip()).batch(256)

    Each sample is {"latent": [h, w, 16] float32 within ±8, "key": its image's name, "label": if it
    has one}, and what a tar held beside the image: "cls", "json", "txt".

    Files are opened when they are first read from, again in each process that a loader starts.

    Args:
        folder: the `--out` of `aura-jax cache make`.

    Raises:
        CacheError: if there is no finished cache, or one of another version.
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
            CacheError: if it cannot be read, such as from a truncated file.
        """
        return self._read(index, from_bytes)

    def __iter__(self) -> Iterator[Sample]:
        return map(self.__getitem__, range(len(self)))

    def stored(self, index: SupportsIndex) -> tuple[np.ndarray, dict[str, Any]]:
        """Read the latent in the dtype that it is stored in, and the sample's other entries.

        Raises:
            IndexError, CacheError: as indexing.
        """
        return self._read(index, parse)

    @property
    def statistics(self) -> Statistics:
        """Statistics that commute with the flips.

        Raises:
            CacheError: if `aura-jax cache stats` has not been run.
        """
        if self.manifest.statistics is None:
            raise CacheError(f"{self.folder}: no statistics yet; run aura-jax cache stats on it")
        return self.manifest.statistics

    @property
    def classes(self) -> tuple[str, ...]:
        """The labels that are names of folders, sorted: `classes.index(label)` is a number."""
        return self.manifest.classes

    def __repr__(self) -> str:
        return f"LatentSource({str(self.folder)!r})"

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_open"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        self._open = lru_cache(OPEN_FILES)(self._opened)

    def _opened(self, path: Path, _process: int) -> Records:
        return records(path, self.manifest.spec.format)

    def _read[T](self, index: SupportsIndex, decode: Callable[[bytes], T]) -> T:
        place = index.__index__()
        place += len(self) if place < 0 else 0
        if not 0 <= place < len(self):
            raise IndexError(f"sample {index}: the cache holds {len(self)}")
        number = bisect.bisect_right(self._ends, place)
        record = place - (self._ends[number - 1] if number else 0)
        path = self.folder / self.manifest.shards[number].file
        try:
            # A forked process opens files of its own: ArrayRecord's readers have threads.
            return decode(self._open(path, os.getpid())[record])
        except Exception as error:  # ArrayRecord's own are of many types
            raise CacheError(
                f"{path}, record {record}: cannot be read "
                f"({str(error).removeprefix(f'{path}: ')}); "
                f"aura-jax cache verify {self.folder} finds all that is damaged"
            ) from None

"""Batches of one size each, from a cache with several."""

import copy
import operator
import sys
from collections.abc import Sequence
from itertools import batched
from typing import Protocol, SupportsIndex, overload, runtime_checkable

import numpy as np
from jaxtyping import Int

from aura_jax.errors import AuraError


@runtime_checkable
class HasSizes(Protocol):
    """A data set whose samples have sizes, such as a `LatentSource`."""

    @property
    def sizes(self) -> Int[np.ndarray, "n 2"]:
        """The height and width of each sample."""
        ...


class BucketBatches(Sequence[list[int]]):
    """The batches of a cache, whose samples have one size each: lists of the numbers of samples.

        batches = BucketBatches(source, 64, seed=0, epochs=10)
        loader = torch.utils.data.DataLoader(source, batch_sampler=batches)
        data = grain.MapDataset.source(batches).seed(0).random_map(read)  # your read(numbers, rng)

    Equal arguments give equal batches on every machine, and `batches[i]` is computed without those
    before it, so a program that was stopped goes on with `batches[done:]`. A slice computes its
    batches when they are read, and equals the list of them.

    Args:
        source: the cache, a `LatentSource`; or anything else with its `sizes`.
        batch_size: the number of samples in a batch. The last batch of each size may have fewer.
        seed: the seed that orders samples and batches, differently in each epoch, 0 or more; None
            keeps the order of the cache.
        epochs: how often all samples come.
        drop_remainder: whether to leave out batches with fewer samples; `dropped` counts these.

    Attributes:
        dropped: the number of samples that each epoch leaves out.

    Raises:
        AuraError: if `batch_size` or `epochs` is not a whole number above 0, `seed` is not one
            above or 0, there is no batch, or there are more than Python can count.
    """

    def __init__(
        self,
        source: HasSizes,
        batch_size: int,
        *,
        seed: int | None = None,
        epochs: int = 1,
        drop_remainder: bool = False,
    ):
        self._size = _whole("batch_size", batch_size, 1)
        self._seed = None if seed is None else _whole("seed", seed, 0)
        heights, widths = source.sizes.T.astype(np.int64)
        _, bucket = np.unique(heights << 32 | widths, return_inverse=True)
        by_bucket = np.argsort(bucket, kind="stable")
        ends = np.cumsum(np.bincount(bucket))
        self._buckets: list[Int[np.ndarray, " n"]] = np.split(by_bucket, ends[:-1])
        self._drop, self.dropped = drop_remainder, 0
        if drop_remainder:
            self.dropped = sum(len(numbers) % self._size for numbers in self._buckets)
        self._current = 0, self._shuffled(0)
        self._per_epoch = len(self._current[1])
        if not self._per_epoch:
            raise AuraError(
                f"{source}: no size has {self._size} samples; give a smaller batch_size, or "
                "drop_remainder=False"
            )

        self._places = range(_whole("epochs", epochs, 1) * self._per_epoch)
        if self._places.stop > sys.maxsize:
            raise AuraError(f"epochs={epochs}: {self._places.stop} batches are too many to count")

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: SupportsIndex) -> list[int]: ...
    @overload
    def __getitem__(self, index: slice) -> "BucketBatches": ...
    def __getitem__(self, index: SupportsIndex | slice) -> "list[int] | BucketBatches":
        """Return the sample numbers of a batch, or a slice of the batches.

        Raises:
            IndexError: if there is no such batch.
        """
        if isinstance(index, slice):
            part = copy.copy(self)
            part._places = self._places[index]
            return part
        try:
            epoch, place = divmod(self._places[index], self._per_epoch)
        except IndexError:
            raise IndexError(f"batch {index}: there are {len(self)}") from None
        current, batches = self._current  # at once, since another thread may replace both
        if epoch != current:
            batches = self._shuffled(epoch)
            self._current = epoch, batches
        return [*batches[place]]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or len(self) != len(other):
            return False
        return all(map(operator.eq, self, other))

    def _shuffled(self, epoch: int) -> list[tuple[int, ...]]:
        """Divide the samples of each bucket into batches, in the order of an epoch."""
        rng = None if self._seed is None else np.random.default_rng((self._seed, epoch))
        batches = []
        for numbers in self._buckets:
            ordered = numbers if rng is None else rng.permutation(numbers)
            # `batched` takes the memory of a whole batch, however few samples there are.
            batches += batched(ordered.tolist(), min(self._size, len(ordered) or 1))
        if self._drop:
            batches = [batch for batch in batches if len(batch) == self._size]
        return batches if rng is None else [batches[i] for i in rng.permutation(len(batches))]


def _whole(name: str, number: int, least: int) -> int:
    try:
        if operator.index(number) >= least:
            return operator.index(number)
    except TypeError:
        pass
    raise AuraError(f"{name}={number!r}: expected a whole number, {least} or more")

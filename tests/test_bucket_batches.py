"""Batches of one size from a cache with several: complete, deterministic and resumable."""

import pickle
from collections import Counter
from itertools import chain
from types import SimpleNamespace
from typing import Any

import grain
import numpy as np
import pytest
import torch

from aura_jax import AuraError
from aura_jax.latents import BucketBatches

COUNTS = {(16, 16): 7, (24, 16): 4, (16, 24): 1}


def source_of(counts: dict[tuple[int, int], int] = COUNTS) -> Any:
    """Return what stands for a source: its sizes, which lie mixed."""
    sizes = [size for size, count in counts.items() for _ in range(count)]
    order = np.random.default_rng(0).permutation(len(sizes))
    return SimpleNamespace(sizes=np.array(sizes, np.int32).reshape(-1, 2)[order])


@pytest.mark.parametrize("seed", [None, 0, 1])
def test_each_epoch_has_every_sample_once_in_batches_of_one_size(seed: int | None) -> None:
    source = source_of()
    batches = BucketBatches(source, 3, seed=seed, epochs=2)
    assert len(batches) == 2 * (3 + 2 + 1)
    for batch in batches:
        assert len({*map(tuple, source.sizes[batch].tolist())}) == 1
        assert 1 <= len(batch) <= 3
    for epoch in (batches[:6], batches[6:]):
        assert sorted(chain(*epoch)) == [*range(12)]
        assert Counter(map(len, epoch)) == {3: 3, 1: 3}


def test_a_seed_fixes_the_order_and_epochs_differ() -> None:
    batches = BucketBatches(source_of(), 3, seed=0, epochs=2)
    assert [*batches] == [*BucketBatches(source_of(), 3, seed=0, epochs=2)]
    assert [*batches] != [*BucketBatches(source_of(), 3, seed=1, epochs=2)]
    assert batches[:6] != batches[6:]
    # numpy's generator is stable, so these come on every machine.
    assert batches[0] == [4, 7, 6]
    assert batches[6] == [3, 6, 11]


def test_without_a_seed_the_order_is_that_of_the_cache() -> None:
    source = SimpleNamespace(sizes=np.array([[8, 8]] * 3 + [[8, 16]] * 2 + [[8, 8]]))
    source_any: Any = source
    assert [*BucketBatches(source_any, 2)] == [[0, 1], [2, 5], [3, 4]]


def test_any_batch_is_computed_without_those_before_it() -> None:
    batches = BucketBatches(source_of(), 3, seed=0, epochs=5)
    for index in (29, 3, 17, 0, -1, 12):
        assert batches[index] == BucketBatches(source_of(), 3, seed=0, epochs=5)[index]
    assert batches[20:] == [*batches][20:]
    assert pickle.loads(pickle.dumps(batches))[:] == batches[:]
    batches[0].clear()
    assert batches[0]
    with pytest.raises(IndexError, match="batch 30: there are 30"):
        batches[30]


def test_a_slice_computes_its_batches_when_they_are_read() -> None:
    batches = BucketBatches(source_of(), 3, seed=0, epochs=10**15)
    rest = batches[10**15 :]
    assert len(rest) == 5 * 10**15
    assert [rest[0], rest[-1]] == [batches[10**15], batches[-1]]
    assert rest[7:9] == [batches[10**15 + 7], batches[10**15 + 8]]
    assert [*rest[5:1:-2]] == [rest[5], rest[3]]
    with pytest.raises(IndexError, match="batch 2: there are 2"):
        rest[:2][2]


def test_batches_larger_than_memory_are_those_of_all_samples() -> None:
    source = source_of()
    assert [*map(len, BucketBatches(source, 2**60))] == [7, 1, 4]
    with pytest.raises(AuraError, match="no size has 1152921504606846976 samples"):
        BucketBatches(source, 2**60, drop_remainder=True)


def test_what_is_dropped_is_counted() -> None:
    batches = BucketBatches(source_of(), 3, seed=0, drop_remainder=True)
    assert [len(batch) for batch in batches] == [3, 3, 3]
    assert batches.dropped == 3
    assert BucketBatches(source_of(), 3).dropped == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size=0: expected a whole number, 1 or more"),
        ({"batch_size": 2, "epochs": 0}, "epochs=0: expected a whole number, 1 or more"),
        ({"batch_size": 2, "epochs": 2**62}, "epochs=4611686018427387904: 32281802128991715"),
        ({"batch_size": 2, "seed": -1}, "seed=-1: expected a whole number, 0 or more"),
        ({"batch_size": 8, "drop_remainder": True}, "no size has 8 samples; give a smaller batch_"),
    ],
)
def test_batches_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(AuraError, match=message):
        BucketBatches(source_of(), **options)


def test_a_cache_without_latents_has_no_batches() -> None:
    with pytest.raises(AuraError, match="no size has 2 samples"):
        BucketBatches(source_of({}), 2)


def test_grain_and_pytorch_read_them() -> None:
    batches = BucketBatches(source_of(), 3, seed=0, epochs=2)
    data = grain.MapDataset.source(batches).to_iter_dataset()
    iterator = iter(data)
    first = [next(iterator) for _ in range(4)]
    state = iterator.get_state()
    assert first == batches[:4]
    resumed = iter(data)
    resumed.set_state(state)
    assert [*resumed] == batches[4:]
    numbers = torch.utils.data.TensorDataset(torch.arange(12))
    loader = torch.utils.data.DataLoader(numbers, batch_sampler=batches)
    assert [batch.tolist() for (batch,) in loader] == batches[:]

"""Read exactly the tensors that a network has, or raise one error that lists every problem.

The autoencoder, VGG16, LPIPS and the converters all read their files through this module.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

import numpy as np

from aura_jax.arrays import Shape
from aura_jax.checkpoint.names import without_wrappers
from aura_jax.checkpoint.tensors import FLOAT_TYPES, StoredCheckpoint, StoredTensor
from aura_jax.errors import CheckpointError, printable

MOST_LISTED = 20  # problems of each kind, such as missing tensors, that one error lists

type Shapes = Mapping[str, Shape]


def unwrapped(stored: StoredCheckpoint) -> dict[str, StoredTensor]:
    """Return a file's tensors by name, with the prefixes of training wrappers removed."""
    return {without_wrappers(name): tensor for name, tensor in stored.tensors.items()}


def read_exactly(
    stored: StoredCheckpoint,
    expected: Shapes,
    noun: str,
    *,
    dtype: np.dtype | None = None,
    problems: Sequence[str] = (),
) -> Iterator[tuple[str, np.ndarray]]:
    """Read a file's tensors one by one, and raise an error unless all of them are as expected.

    Values are checked as they are read, so the error may come after the last tensor: do not use any
    of them before the iteration has ended.

    Args:
        stored: the file, with or without the prefixes of training wrappers.
        expected: the shapes of all tensors by name.
        noun: the content that the file should have, for the message.
        dtype: the dtype to cast to; by default each tensor keeps its own. With a cast float64 is
            accepted too.
        problems: problems that are known already.

    Yields:
        The name and values of each tensor.

    Raises:
        CheckpointError: with a line for every duplicate, missing, unexpected or misshaped tensor,
            every dtype other than bfloat16, float16 and float32, and every tensor with NaN or
            infinite values, before or after the cast. Of each kind it lists the first twenty.
    """
    allowed = (*FLOAT_TYPES, "F64") if dtype is not None else (*FLOAT_TYPES,)
    found = [*problems, *misfits(stored, expected), *_other_types(stored, allowed)]
    sound = not found
    for name, tensor in sorted(unwrapped(stored).items()):
        if tensor.dtype not in allowed or tensor.shape != expected.get(name):
            continue  # other tensors may be much larger than the network
        array = _cast(tensor.read(), dtype)
        if not np.isfinite(array).all():
            found.append(f"not finite: {name} has NaN or infinite values")
        if sound:
            yield name, array
    raise_all(stored.source, noun, found)


def misfits(stored: StoredCheckpoint, expected: Shapes) -> list[str]:
    """List duplicate, missing, unexpected and misshaped tensors of a file, without reading any."""
    shapes = {name: tensor.shape for name, tensor in unwrapped(stored).items()}
    lines = [
        *(f"duplicate: {printable(name)}" for name in _duplicates(stored)),
        *(f"missing: {name} {expected[name]}" for name in expected.keys() - shapes.keys()),
        *(
            f"unexpected: {printable(name)} {printable(str(shapes[name]))}"
            for name in shapes.keys() - expected.keys()
        ),
    ]
    for name in shapes.keys() & expected.keys():
        if shapes[name] != expected[name]:
            found = printable(str(shapes[name]))
            lines.append(f"misshaped: {name} is {found}, expected {expected[name]}")
    return sorted(lines)


def raise_all(source: str, noun: str, problems: Sequence[str]) -> None:
    """Raise one CheckpointError that lists the problems; return if there are none.

    Of each kind it lists the first twenty, and counts the others.
    """
    if problems:
        raise CheckpointError("\n  ".join((f"{source}: not {noun}", *_first_of_each(problems))))


def _first_of_each(problems: Sequence[str]) -> Iterator[str]:
    for kind, group in groupby(problems, lambda line: line.partition(":")[0]):
        lines = [*group]
        yield from lines[:MOST_LISTED]
        if len(lines) > MOST_LISTED:
            yield f"{kind}: and {len(lines) - MOST_LISTED} more"


def _duplicates(stored: StoredCheckpoint) -> list[str]:
    counts = Counter(map(without_wrappers, stored.tensors))
    return [name for name in stored.tensors if counts[without_wrappers(name)] > 1]


def _other_types(stored: StoredCheckpoint, allowed: Sequence[str]) -> list[str]:
    hint = "" if "F64" in allowed else " (float64 needs a param_dtype to round it to)"
    return [
        f"type: {printable(name)} is {tensor.dtype}, expected {', '.join(allowed)}{hint}"
        for name, tensor in sorted(unwrapped(stored).items())
        if tensor.dtype not in allowed
    ]


def _cast(array: np.ndarray, dtype: np.dtype | None) -> np.ndarray:
    if dtype is None:
        return array
    with np.errstate(over="ignore"):  # an overflow becomes infinite, which is reported by name
        return array.astype(dtype)

"""Run a codec's programs on batches: padded to devices, to declared shapes and to buckets."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from aura_jax.errors import ArrayError, first_of
from aura_jax.runtime.buckets import Buckets, Sides, batches, cut, marked
from aura_jax.runtime.placement import Placement
from aura_jax.runtime.program import Program
from aura_jax.runtime.shapes import Shapes

type Progress = Callable[[Iterable[list[int]]], Iterable[list[int]]]


@dataclasses.dataclass(frozen=True)
class Runner:
    """Programs that run one after another, where arrays lie, and how arrays are padded for them.

    Attributes:
        programs: the programs by name.
        place: where their arrays lie.
        shapes: the batches that smaller ones are padded to.
        buckets: the sizes that images are padded to, if any.
    """

    programs: Mapping[str, Program]
    place: Placement
    shapes: Shapes
    buckets: Buckets | None

    def run(self, names: Sequence[str], x: Array | np.ndarray, scale: int) -> Array:
        """Run programs one after another on a batch; `scale` is that of `Shapes.padded`."""
        count, sides = x.shape[0], (x.shape[1], x.shape[2])
        if self.buckets is None:
            return self.place.first(self._run_padded(names, x, sides, scale), count)
        if isinstance(x, jax.core.Tracer):
            return jnp.stack(self._run_in_bucket(names, [*x], scale))
        images = [*np.asarray(x)]  # JAX would compile slices
        bucket = self.bucket(self.programs[names[0]].name, sides, scale)
        if sides == bucket:  # nothing is cut, so nothing waits
            return self.place.first(self._run_whole(names, images, bucket, scale), count)
        results = self._run_in_bucket(names, images, scale)
        return jax.device_put(np.stack(results), self.place.local_device)

    def run_many(
        self,
        name: str,
        arrays: Sequence[Array | np.ndarray],
        scale: int,
        names: Callable[[np.dtype], Sequence[str]],
        progress: Progress,
    ) -> list[np.ndarray]:
        """Run programs on arrays of different sizes, in batches by bucket.

        Args:
            name: the arrays' name, for messages.
            arrays: [h, w, C] each, of one dtype.
            scale: that of `Shapes.padded`.
            names: returns the programs for a dtype.
            progress: wraps the batches as they are run.
        """
        results: dict[int, np.ndarray] = {}
        buckets = [self.bucket(name, x.shape[:2], scale) for x in arrays]
        if len({x.dtype for x in arrays}) > 1 or (self.buckets is None and len({*buckets}) > 1):
            kinds = sorted({f"{x.dtype} {tuple(x.shape)}" for x in arrays})
            raise ArrayError(
                f"{name} of several kinds, {first_of(kinds)}: expected one dtype, and one size "
                "without buckets; make the codec with buckets=[(height, width), ...]"
            )
        for batch in progress(batches(buckets, lambda bucket: self.shapes.batch(bucket, scale))):
            of = [arrays[i] for i in batch]
            run = self._run_in_bucket if self.buckets else self._run_equal
            results |= zip(batch, run(names(of[0].dtype), of, scale), strict=True)
        return [results[i] for i in range(len(arrays))]

    def _run_equal(self, names: Sequence[str], arrays: Sequence[Any], scale: int) -> Sequence[Any]:
        return [*np.asarray(self.run(names, np.stack(arrays), scale))]

    def _run_in_bucket(
        self, names: Sequence[str], arrays: Sequence[Any], scale: int
    ) -> Sequence[Any]:
        """Run programs on arrays of different sizes, as one batch of the bucket that holds them."""
        sides = tuple(max(x.shape[axis] for x in arrays) for axis in (0, 1))
        bucket = self.bucket(self.programs[names[0]].name, sides, scale)
        results = self._run_whole(names, arrays, bucket, scale)
        if not isinstance(results, jax.core.Tracer):
            results = np.asarray(results)
        return [cut(y, x.shape[:2], bucket) for x, y in zip(arrays, results, strict=False)]

    def bucket(self, name: str, sides: Any, scale: int) -> Sides:
        """Return the size to which images or latents are padded: see `Buckets.holding`."""
        return sides if self.buckets is None else self.buckets.holding(name, sides, scale)

    def _run_whole(
        self, names: Sequence[str], arrays: Sequence[Any], bucket: Sides, scale: int
    ) -> Array:
        """Run programs on arrays that are padded to a bucket, and return whole results."""
        return self._run_padded(names, marked(arrays, bucket), bucket, scale)

    def _run_padded(
        self, names: Sequence[str], x: Array | np.ndarray, sides: Sides, scale: int
    ) -> Array:
        """Run programs on a batch, padded to the devices and to a declared shape."""
        is_traced = isinstance(x, jax.core.Tracer)  # where no other mesh can be set
        with nullcontext() if is_traced else self.place.context():
            y: Any = self.shapes.padded(x, sides, scale, self.place.whole_batch(x.shape[0]))
            for name in names:
                y = self._call(name, y)
            return y

    def _call(self, name: str, x: Array | np.ndarray) -> Array:
        program = self.programs[name]
        if not isinstance(x, jax.core.Tracer):
            self.shapes.check(program.name, program.unmarked(x.shape), program.shapes)
        return program(x)

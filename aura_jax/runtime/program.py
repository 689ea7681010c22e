"""A function with weights, compiled ahead of time for each shape it is called with."""

import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.core
import numpy as np
from jax import ShapeDtypeStruct
from jax.sharding import NamedSharding
from jax.stages import Compiled, Lowered
from jaxtyping import Array
from rich.filesize import decimal

from aura_jax.arrays import Shape
from aura_jax.errors import ArrayError
from aura_jax.runtime.auto_axes import on_auto_axes
from aura_jax.runtime.placement import Placement
from aura_jax.runtime.plan import CompilerOptions, MatmulPrecision

EXECUTABLES = 32  # kept by each program; one takes about 10 MB of a process's memory


class Program:
    """A function of weights and one array, with an executable for each shape of the array.

    Attributes:
        compiled: the executables by shape, those used last at the end; older ones are dropped.
        load: returns the executable for a shape without compiling it, or None.

    Args:
        name: the array's name in messages, such as images.
        function: the function to compile.
        weights: the function's first argument: a flat list, which JAX dispatches faster than a
            module. They are copied to every device; abstract ones allow compiling alone.
        dtype: the array's dtype.
        placement: where the array and the result lie; weights lie on each of its devices.
        marked: whether arrays have a last row and column of marks, which messages leave out.
        options: XLA's compiler options, which apply to these executables alone.
        matmul_precision: JAX's precision for float32 matrix products.
    """

    def __init__(
        self,
        name: str,
        function: Callable[[Sequence[Array], Array], Array],
        weights: Sequence[Array | np.ndarray | ShapeDtypeStruct],
        dtype: np.dtype,
        placement: Placement,
        *,
        marked: bool = False,
        options: CompilerOptions | None = None,
        matmul_precision: MatmulPrecision = "highest",
    ):
        self.name, self.dtype, self.placement = name, dtype, placement
        self.weights = [*weights]
        if not any(isinstance(each, ShapeDtypeStruct) for each in weights):
            self.place(weights)
        self.load: Callable[[Shape], Compiled | None] = lambda _: None
        self._marked, self._options, self._precision = marked, options, matmul_precision
        sharding = placement.sharding
        out = sharding if isinstance(sharding, NamedSharding) else None
        self._function = jax.jit(on_auto_axes(function), out_shardings=out)
        self.compiled: OrderedDict[Shape, Compiled] = OrderedDict()
        self._refused: dict[Shape, str] = {}  # so that a folder of large images compiles once

    @property
    def shapes(self) -> list[Shape]:
        """The shapes that have an executable, without marks."""
        return [*map(self.unmarked, self.compiled)]

    def unmarked(self, shape: Shape) -> Shape:
        """Return the shape of an array without its row and column of marks."""
        if not self._marked:
            return shape
        batch, height, width, channels = shape
        return batch, height - 1, width - 1, channels

    def place(self, weights: Sequence[Any]) -> None:
        """Set the weights, with a copy on every device."""
        self.weights = jax.device_put([*weights], self.placement.weights)

    def compile(self, shape: Shape) -> Compiled:
        """Return the executable for a shape, compiled on the first call.

        Raises:
            ArrayError: if it needs more memory than the device has.
        """
        if shape in self._refused:
            raise ArrayError(self._refused[shape])
        if shape not in self.compiled:
            self.compiled[shape] = self._new(shape)
            if len(self.compiled) > EXECUTABLES:
                self.compiled.popitem(last=False)
        self.compiled.move_to_end(shape)
        return self.compiled[shape]

    def lower(self, shape: Shape) -> Lowered:
        """Lower the function for a shape, without compiling it."""
        x = ShapeDtypeStruct(shape, self.dtype, sharding=self.placement.sharding)
        weights = [
            ShapeDtypeStruct(each.shape, each.dtype, sharding=self.placement.weights)
            for each in self.weights
        ]
        with jax.default_matmul_precision(self._precision):
            return self._function.lower(weights, x)

    def __call__(self, x: Array | np.ndarray) -> Array:
        """Run the executable for an array's shape, without waiting for the result.

        Inside a transformation of JAX the function becomes a part of what is transformed.
        """
        x = x if x.dtype == self.dtype else x.astype(self.dtype)
        x = x if isinstance(x, jax.core.Tracer) else self.placement.put(x)
        if isinstance(x, jax.core.Tracer) or jax.config.jax_disable_jit:  # after jit's `put` too
            with jax.default_matmul_precision(self._precision):
                return self._function(self.weights, x)
        return self.compile(x.shape)(self.weights, x)

    def try_out(self, compiled: Compiled) -> None:
        """Run an executable on zeros and wait for it, which raises what is wrong with it."""
        *_, x = jax.tree.leaves(compiled.args_info)
        zeros = self.placement.put(np.zeros(x.shape, x.dtype))
        jax.block_until_ready(compiled(self.weights, zeros))

    def _new(self, shape: Shape) -> Compiled:
        try:
            compiled = self.load(shape) or self.lower(shape).compile(self._options)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            raise self._refusal(shape, "needs more memory than the device has") from None
        plan, limit = compiled.memory_analysis(), device_memory(self.placement.local_device)
        if plan is None or limit is None:
            return compiled
        needed = sum(
            (plan.argument_size_in_bytes, plan.output_size_in_bytes, plan.temp_size_in_bytes)
        )
        if needed > limit:
            sizes = f"needs {decimal(needed)} of memory, and the device has {decimal(limit)}"
            raise self._refusal(shape, sizes)
        return compiled

    def _refusal(self, shape: Shape, reason: str) -> ArrayError:
        """Return the error for a shape that needs too much memory, and remember it."""
        is_cpu = self.placement.device.platform == "cpu"  # where bfloat16 needs more memory
        advice = f"use {'a smaller batch or ' if shape[0] > 1 else ''}smaller images"
        advice += "" if is_cpu else ", or bfloat16"
        self._refused[shape] = f"{self.name} of shape {self.unmarked(shape)}: {reason}; {advice}"
        return ArrayError(self._refused[shape])


def device_memory(device: Any) -> int | None:
    """Return the memory of a device in bytes; None if the device does not report it."""
    if device.platform == "cpu":
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return (device.memory_stats() or {}).get("bytes_limit")

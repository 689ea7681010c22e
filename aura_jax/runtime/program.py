"""A function with weights, compiled ahead of time for each shape it is called with."""

import os
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import ShapeDtypeStruct
from jax.stages import Compiled
from jaxtyping import Array

from aura_jax.errors import ArrayError

type Shape = tuple[int, ...]

type CompilerOptions = dict[str, str | bool]


class Program:
    """A function of weights and one array, with an executable for each shape of the array.

    Args:
        name: what the array is, for messages.
        function: to compile; float32 products in it are at the highest precision.
        weights: its first argument, a flat list, which is dispatched faster than a module.
        dtype: of the array.
        options: XLA's, for these executables alone.
    """

    def __init__(
        self,
        name: str,
        function: Callable[[Sequence[Array], Array], Array],
        weights: Sequence[Array],
        dtype: np.dtype,
        options: CompilerOptions | None = None,
    ):
        self.name, self.weights, self.dtype = name, [*weights], dtype
        self._options = options
        self._function = jax.jit(function)
        self._compiled: dict[Shape, Compiled] = {}

    @property
    def shapes(self) -> list[Shape]:
        """What it is compiled for."""
        return [*self._compiled]

    def compile(self, shape: Shape) -> Compiled:
        """The executable for a shape, compiled on the first call.

        Raises:
            ArrayError: if it needs more memory than the device has.
        """
        if shape not in self._compiled:
            with jax.default_matmul_precision("highest"):
                lowered = self._function.lower(self.weights, ShapeDtypeStruct(shape, self.dtype))
            compiled = lowered.compile(compiler_options=self._options)
            self._check_memory(shape, compiled)
            self._compiled[shape] = compiled
        return self._compiled[shape]

    def __call__(self, x: Array | np.ndarray) -> Array:
        """Runs it, in the background as JAX does."""
        return self.compile(x.shape)(self.weights, jnp.asarray(x, self.dtype))

    def _check_memory(self, shape: Shape, compiled: Compiled) -> None:
        plan, limit = compiled.memory_analysis(), device_memory()
        if plan is None or limit is None:
            return
        needed = sum(
            (plan.argument_size_in_bytes, plan.output_size_in_bytes, plan.temp_size_in_bytes)
        )
        if needed > limit:
            raise ArrayError(
                f"{self.name} of shape {shape}: {needed / 1e6:,.0f} MB of memory are needed, "
                f"and the device has {limit / 1e6:,.0f} MB; take fewer or smaller ones, or bfloat16"
            )


def compiler_options(dtype: np.dtype) -> CompilerOptions | None:
    """For networks that compute in a type: oneDNN's convolutions for bfloat16 on a CPU.

    XLA's own are float32 within. For float32 they are no faster, and JAX's compilation cache cannot
    keep their executables.
    """
    if jax.default_backend() == "cpu" and dtype == jnp.bfloat16:
        return {"xla_cpu_experimental_onednn_custom_call": True}
    return None


def device_memory() -> int | None:
    """Bytes that the default device gives to arrays; None if it does not say."""
    device = jax.devices()[0]
    if device.platform == "cpu":
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return (device.memory_stats() or {}).get("bytes_limit")

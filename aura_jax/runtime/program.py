"""A function with weights, compiled ahead of time for each shape it is called with."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import ShapeDtypeStruct
from jax.stages import Compiled, Lowered
from jaxtyping import Array
from rich.filesize import decimal

from aura_jax.arrays import Shape
from aura_jax.errors import ArrayError

type CompilerOptions = dict[str, str | bool]
type MatmulPrecision = Literal["high", "highest"]


@dataclasses.dataclass(frozen=True)
class Settings:
    """How to compile a program.

    Attributes:
        options: XLA's compiler options, which apply to these executables alone.
        matmul_precision: JAX's precision for float32 matrix products.
    """

    options: CompilerOptions | None = None
    matmul_precision: MatmulPrecision = "highest"


class Program:
    """A function of weights and one array, with an executable for each shape of the array.

    Args:
        name: the array's name in messages, such as images.
        function: the function to compile.
        weights: the function's first argument: a flat list, which JAX dispatches faster than a
            module.
        dtype: the array's dtype.
        settings: how to compile it.
    """

    def __init__(
        self,
        name: str,
        function: Callable[[Sequence[Array], Array], Array],
        weights: Sequence[Array],
        dtype: np.dtype,
        settings: Settings = Settings(),
    ):
        self.name, self.weights, self.dtype = name, [*weights], dtype
        self._settings = settings
        self._function = jax.jit(function)
        self._compiled: dict[Shape, Compiled] = {}

    @property
    def shapes(self) -> list[Shape]:
        """The shapes that have an executable."""
        return [*self._compiled]

    def compile(self, shape: Shape) -> Compiled:
        """Return the executable for a shape, compiled on the first call.

        Raises:
            ArrayError: if it needs more memory than the device has.
        """
        if shape not in self._compiled:
            compiled = self.lower(shape).compile(compiler_options=self._settings.options)
            self._check_memory(shape, compiled)
            self._compiled[shape] = compiled
        return self._compiled[shape]

    def lower(self, shape: Shape) -> Lowered:
        """Lower the function for a shape, without compiling it."""
        with jax.default_matmul_precision(self._settings.matmul_precision):
            return self._function.lower(self.weights, ShapeDtypeStruct(shape, self.dtype))

    def __call__(self, x: Array | np.ndarray) -> Array:
        """Run the executable for an array's shape, without waiting for the result."""
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
                f"{self.name} of shape {shape}: needs {decimal(needed)} of memory, and the device "
                f"has {decimal(limit)}; use a smaller batch, smaller images or bfloat16"
            )


def compiler_options(dtype: np.dtype) -> CompilerOptions | None:
    """Choose oneDNN's convolutions for networks that compute in bfloat16 on a CPU.

    XLA's own convolutions compute in float32 internally. oneDNN's are no faster in float32, and
    JAX 0.12 cannot store executables that call them in its compilation cache.
    """
    if jax.default_backend() == "cpu" and dtype == jnp.bfloat16:
        return {"xla_cpu_experimental_onednn_custom_call": True}
    return None


def device_memory() -> int | None:
    """Return the memory of the default device in bytes; None if the device does not report it."""
    device = jax.devices()[0]
    if device.platform == "cpu":
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return (device.memory_stats() or {}).get("bytes_limit")

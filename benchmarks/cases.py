"""Cases to measure: a model size, an image and batch size, and a dtype to compute in."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

from aura_jax import AuraConfig
from aura_jax.errors import AuraError
from benchmarks.flops import Part, flops

type Dtype = Literal["float32", "bfloat16"]


@dataclasses.dataclass(frozen=True)
class Case:
    """A model and a batch of square images of `size` pixels a side."""

    config: AuraConfig
    size: int
    batch: int
    dtype: Dtype

    @property
    def name(self) -> str:
        """The name for `--case`, such as ch256-512px-b8-bfloat16."""
        return f"ch{self.config.ch}-{self.size}px-b{self.batch}-{self.dtype}"

    def shape(self, part: Part) -> tuple[int, int, int, int]:
        """Return the shape of the network's input."""
        scale = self.config.downsampling if part == "decode" else 1
        channels = self.config.z_channels if part == "decode" else self.config.in_channels
        return (self.batch, self.size // scale, self.size // scale, channels)

    def flops(self, part: Part) -> int:
        """Count the operations for the whole batch."""
        return self.batch * flops(self.config, part, self.size)


FULL, HALF = AuraConfig(), AuraConfig(ch=128)
CPU_CASES = (
    Case(HALF, 256, 1, "float32"),
    Case(HALF, 256, 1, "bfloat16"),
    Case(FULL, 256, 1, "float32"),
    Case(FULL, 256, 1, "bfloat16"),
)
GPU_CASES = (
    Case(FULL, 256, 1, "bfloat16"),
    Case(FULL, 512, 1, "bfloat16"),
    Case(FULL, 1024, 1, "bfloat16"),
    Case(FULL, 256, 16, "bfloat16"),
    Case(FULL, 256, 64, "bfloat16"),
    Case(FULL, 512, 8, "bfloat16"),
    Case(FULL, 2048, 1, "bfloat16"),
    Case(FULL, 512, 1, "float32"),
)
# Small enough for trying out the benchmark itself.
TINY_CASES = tuple(
    Case(AuraConfig(ch=32, ch_mult=(1, 2), num_res_blocks=1), 32, 2, dtype)
    for dtype in ("float32", "bfloat16")
)
CASES = {case.name: case for case in (*CPU_CASES, *GPU_CASES, *TINY_CASES)}


def find_cases(names: Sequence[str], platform: str) -> list[Case]:
    """Return the cases of these names; without names, all cases for a JAX platform.

    Raises:
        AuraError: if a name is unknown.
    """
    unknown = sorted({*names} - CASES.keys())
    if unknown:
        raise AuraError(f"case {', '.join(unknown)}: expected one of {', '.join(CASES)}")
    defaults = CPU_CASES if platform == "cpu" else GPU_CASES
    return [CASES[name] for name in names] or [*defaults]

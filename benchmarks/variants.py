"""Variants to measure: PyTorch eager and compiled, the plain model, and `aura_jax.Codec`."""

import dataclasses
from typing import Literal

from benchmarks.cases import Case

type Mode = Literal["eager", "compile", "max-autotune", "plain", "highest", "fast", "bucket"]


@dataclasses.dataclass(frozen=True)
class Variant:
    """One way to run the model.

    Attributes:
        label: the name in tables.
        mode: the name in requests to the worker.
        ours: whether it is this package instead of PyTorch.
    """

    label: str
    mode: Mode
    ours: bool

    @property
    def worker(self) -> str:
        """The module of `benchmarks.workers` that runs it."""
        return "jax_worker" if self.ours else "torch_worker"


EAGER = Variant("torch eager", "eager", ours=False)
COMPILED = Variant("torch.compile", "compile", ours=False)
AUTOTUNED = Variant("torch.compile max-autotune", "max-autotune", ours=False)
PLAIN = Variant("aura-jax plain", "plain", ours=True)
DEFAULT = Variant("aura-jax", "highest", ours=True)
FAST = Variant("aura-jax fast", "fast", ours=True)
BUCKET = Variant("aura-jax bucket", "bucket", ours=True)


def variants_of(case: Case, *, compiled: bool, autotuned: bool) -> list[Variant]:
    """Return the variants in the order of their turns; "fast" is included only for float32."""
    others = [EAGER, *[COMPILED] * compiled, *[AUTOTUNED] * autotuned]
    return [*others, DEFAULT, *[FAST] * (case.dtype == "float32")]

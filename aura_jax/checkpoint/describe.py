"""What a checkpoint holds, in a few words and numbers."""

import dataclasses
import math

from aura_jax.checkpoint.names import Layout, layout_of, unwrapped
from aura_jax.checkpoint.tensors import StoredCheckpoint
from aura_jax.checkpoint.validation import checked_config, raise_all
from aura_jax.config import AuraConfig


@dataclasses.dataclass(frozen=True)
class Summary:
    """The counts and types of a checkpoint whose names and shapes have been checked."""

    layout: Layout
    config: AuraConfig
    tensors: int
    parameters: int
    dtypes: tuple[str, ...]

    def __str__(self) -> str:
        types = " and ".join(self.dtypes)
        counts = f"{self.parameters:,} parameters in {self.tensors} tensors, {types}"
        return f"{counts}, {self.layout} layout\n{self.config}"


def summarize(stored: StoredCheckpoint) -> Summary:
    """Reads no tensor, only names, shapes and types.

    Raises:
        CheckpointError: if these are not exactly those of an AuraEquiVAE.
    """
    config, problems = checked_config(stored)
    raise_all(stored.source, problems)
    tensors = unwrapped(stored)
    return Summary(
        layout=layout_of(tensors),
        config=config,
        tensors=len(tensors),
        parameters=sum(math.prod(tensor.shape) for tensor in tensors.values()),
        dtypes=tuple(sorted({tensor.dtype for tensor in tensors.values()})),
    )

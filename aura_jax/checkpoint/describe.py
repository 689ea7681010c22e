"""Summarize a checkpoint in a few words and numbers."""

import dataclasses
import math
from typing import Any

from aura_jax.checkpoint.infer_config import find_config, find_latent_stats
from aura_jax.checkpoint.loading import NOUN
from aura_jax.checkpoint.names import WRAPPERS, Layout, in_layout, layout_of
from aura_jax.checkpoint.tensors import StoredCheckpoint
from aura_jax.checkpoint.validation import misfits, raise_all, unwrapped
from aura_jax.config import AuraConfig
from aura_jax.dtypes import FLOAT32
from aura_jax.errors import printable
from aura_jax.latent_stats import LatentStats
from aura_jax.model.parameters import blueprint, shapes_of


@dataclasses.dataclass(frozen=True)
class Summary:
    """The counts and dtypes of a checkpoint whose names and shapes have been checked.

    Attributes:
        layout: its names and axes, PyTorch's or Flax's.
        config: the sizes of the model.
        tensors: their number.
        parameters: their number.
        dtypes: the file format's names of the dtypes.
        prefix: the prefix that has been removed from all stored names.
        wrappers: the parts, such as `module`, that training wrappers inserted in stored names.
        latent_stats: mean and standard deviation of the latents; None if it has none.
    """

    layout: Layout
    config: AuraConfig
    tensors: int
    parameters: int
    dtypes: tuple[str, ...]
    prefix: str
    wrappers: tuple[str, ...]
    latent_stats: LatentStats | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the summary in values of JSON."""
        stats = self.latent_stats and self.latent_stats.to_dict()
        return {**dataclasses.asdict(self), "latent_stats": stats}

    def __str__(self) -> str:
        types = " and ".join(self.dtypes)
        counts = f"{self.parameters:,} parameters in {self.tensors} tensors, {types}"
        prefix = f', names under the prefix "{printable(self.prefix)}"' if self.prefix else ""
        wrappers = f", names with {' and '.join(self.wrappers)}" if self.wrappers else ""
        stats = f"\n{printable(repr(self.latent_stats), 2500)}" if self.latent_stats else ""
        return f"{counts}, {self.layout} layout{prefix}{wrappers}\n{self.config}{stats}"


def summarize(stored: StoredCheckpoint) -> Summary:
    """Check names and shapes and count parameters, without reading any tensor.

    Raises:
        CheckpointError: if the names and shapes are not exactly those of an AuraEquiVAE.
    """
    tensors = unwrapped(stored)
    config, problems = find_config(stored)
    latent_stats, contradiction = find_latent_stats(stored)
    layout = layout_of(tensors)
    expected = in_layout(shapes_of(blueprint(config, FLOAT32, FLOAT32)), layout)
    raise_all(stored.source, NOUN, [*problems, *contradiction, *misfits(stored, expected)])
    return Summary(
        layout=layout,
        config=config,
        tensors=len(tensors),
        parameters=sum(math.prod(tensor.shape) for tensor in tensors.values()),
        dtypes=tuple(sorted({tensor.dtype for tensor in tensors.values()})),
        prefix=stored.prefix,
        wrappers=tuple(sorted(WRAPPERS & {part for n in stored.tensors for part in n.split(".")})),
        latent_stats=latent_stats,
    )

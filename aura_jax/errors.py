"""The errors a user can cause. Each message names the thing and says what to do."""

from collections.abc import Iterable
from itertools import islice


class AuraError(ValueError):
    """Base of every error that aura_jax raises for an input it cannot use."""


class ConfigError(AuraError):
    """A configuration that no AuraEquiVAE can have."""


class ArrayError(AuraError):
    """An array of the wrong layout, shape, type or range."""


class CheckpointError(AuraError):
    """A checkpoint that cannot be found, read or written as it should be."""


class ImageError(AuraError):
    """A file that cannot be read as a photograph, or a crop outside of it."""


class TrainingError(AuraError):
    """A recipe, a data set or a run's folder that training cannot go on with."""


class CacheError(AuraError):
    """A cache of latents that cannot be made, resumed or read as it should be."""


def first_of(reasons: Iterable[str]) -> str:
    """The end of a message about many things: the first ten of them, a line each."""
    return "the first are\n  " + "\n  ".join(islice(reasons, 10))

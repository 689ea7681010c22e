"""The errors a user can cause. Each message names the thing and says what to do."""

import json
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any


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
    """Format the end of a message about many things: the first ten of them, a line each."""
    return "the first are\n  " + "\n  ".join(islice(reasons, 10))


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """List the entries that differ between two sets of JSON values, one line for each.

    Args:
        before: what a folder of results was started with.
        now: what is given now.
    """
    keys = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    return [
        f"{key}: {json.dumps(before.get(key))} before, {json.dumps(now.get(key))} now"
        for key in keys
    ]

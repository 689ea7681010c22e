"""Errors that a user can cause. Each message says what is wrong, where, and what to do."""

import json
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any


class AuraError(ValueError):
    """Base of all errors that aura_jax raises for inputs that it cannot use."""


class ConfigError(AuraError):
    """The sizes of a model are invalid, or do not fit the task."""


class ArrayError(AuraError):
    """An array has the wrong layout, shape, dtype or range."""


class CheckpointError(AuraError):
    """A checkpoint cannot be found or read, or its tensors are wrong."""


class ImageError(AuraError):
    """An image file cannot be found, read or written, or an image is too small."""


class TrainingError(AuraError):
    """Training cannot start or continue with a recipe, a data set or a run's folder."""


class CacheError(AuraError):
    """A cache of latents cannot be made, resumed or read."""


def printable(text: str, longest: int = 200) -> str:
    """Escape control characters and shorten a long text, such as a name in a damaged file."""
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[:longest])
    return shown if len(text) <= longest else f"{shown}… ({len(text)} characters)"


def counted(count: int, noun: str) -> str:
    """Format a number with its noun, such as "1 image" or "2 images"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def listed(names: Iterable[str]) -> str:
    """Join names for a message: the first ten, escaped, and the number of others."""
    found = [*names]
    more = [f"{len(found) - 10} more"] if len(found) > 10 else []
    return ", ".join([*map(printable, found[:10]), *more])


def first_of(reasons: Iterable[str]) -> str:
    """Format the first ten reasons as the end of a message, one on each line."""
    return "the first are\n  " + "\n  ".join(islice(reasons, 10))


def differences(
    before: Mapping[str, Any], now: Mapping[str, Any], digests: Mapping[str, str]
) -> list[str]:
    """List the entries that differ between two sets of JSON values, one line for each.

    Args:
        before: the values recorded when a folder of results was started.
        now: the values given for the current call.
        digests: the lines for entries that are checksums, which nobody can read.
    """
    return [
        digests.get(key) or f"{key}: {json.dumps(before.get(key))} before, {json.dumps(new)} now"
        for key in {**before, **now}
        if before.get(key) != (new := now.get(key))
    ]

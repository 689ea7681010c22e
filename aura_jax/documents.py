"""JSON documents of measurements: their averages, JSON's types, and bytes."""

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np


def average(trees: Sequence[Any]) -> Any:
    """Average trees of the same structure: nested dictionaries of numbers, lists, arrays or None.

    None, which is in the same place of all trees, stays.
    """
    if isinstance(trees[0], dict):
        return {key: average([tree[key] for tree in trees]) for key in trees[0]}
    if trees[0] is None:
        return None
    means = np.mean(trees, axis=0)
    return means if means.ndim else float(means)


def as_json(tree: Any) -> Any:
    """Convert to JSON's types, with numbers rounded to 6 digits and null for NaN and infinity."""
    if isinstance(tree, dict):
        return {key: as_json(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple | np.ndarray):
        return [as_json(value) for value in tree]
    if isinstance(tree, float):
        return float(f"{tree:.6g}") if math.isfinite(tree) else None
    return tree


def to_bytes(document: dict[str, Any]) -> bytes:
    """Write a document of JSON's types as the bytes of a file that people can read too."""
    return json.dumps(document, allow_nan=False, ensure_ascii=False, indent=1).encode(
        errors="backslashreplace"  # for file names that are not UTF-8
    )

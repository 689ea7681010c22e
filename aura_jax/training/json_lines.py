"""Files of JSON lines, to which a run that may be killed appends."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aura_jax.errors import TrainingError


def read_lines[T](path: Path, convert: Callable[[Any], T]) -> list[T]:
    """Read a file of JSON lines, if it exists, without the last line if it is incomplete.

    Args:
        path: the file.
        convert: checks and converts the JSON value of a line, or raises ValueError.

    Raises:
        TrainingError: if a line cannot be decoded or converted.
    """
    if not path.exists():
        return []
    values = []
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), start=1):
        try:
            if line.endswith(b"\n"):
                values.append(convert(json.loads(line)))
        except (ValueError, RecursionError) as error:
            raise TrainingError(
                f"{path}, line {number}: damaged ({error}); remove the line to continue"
            ) from None
    return values

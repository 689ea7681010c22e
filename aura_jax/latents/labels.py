"""Read the label files beside an image in a tar."""

import codecs
import json
import math
import re
from collections import Counter
from typing import Any

from aura_jax.images.readers import ImageFile

LABELS = ("cls", "json", "txt")  # endings of label files
MAX_BYTES = 2**24  # of a label file
WHOLE_NUMBER = re.compile(r"[+-]?\d+", re.ASCII)
ENCODINGS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def read_label(ending: str, file: ImageFile, problems: Counter[str]) -> Any:
    """Read a label file as text, a whole number (cls) or JSON; count it if it cannot be read.

    The text is UTF-8, or UTF-16 if it begins with a byte order mark, which is removed. Numbers in
    JSON that are NaN or infinite become None.

    Args:
        ending: the file's ending.
        file: its location.
        problems: receives the number of files that cannot be read or have such numbers, by kind.

    Returns:
        The content; None if it cannot be read.

    Raises:
        OSError: if the tar cannot be read.
    """
    try:
        if file.size > MAX_BYTES:
            raise ValueError
        return _parsed(ending, file.read(), problems)
    except (ValueError, RecursionError):
        problems[f"unreadable .{ending}"] += 1
        return None


def _parsed(ending: str, data: bytes, problems: Counter[str]) -> Any:
    encoding = next((name for mark, name in ENCODINGS.items() if data.startswith(mark)), "utf-8")
    text = data.decode(encoding).strip()
    if ending == "cls" and WHOLE_NUMBER.fullmatch(text):
        return int(text)
    if ending != "json":
        return text
    odd: list[str] = []  # `append` returns None, which takes the number's place

    def number(literal: str) -> float | None:
        value = float(literal)
        return value if math.isfinite(value) else odd.append(literal)

    document = json.loads(text, parse_constant=odd.append, parse_float=number)
    if odd:
        problems[f".{ending} with NaN or infinity, kept as null"] += 1
    return document

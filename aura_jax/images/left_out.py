"""Tell images from other files by their names and first bytes, and count the others by kind."""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import chain

from aura_jax.images.formats import ENDINGS, can_open, endings, image_format

HIDDEN = "hidden"
HIDDEN_NAMES = {"__MACOSX", "@eaDir"}  # metadata of macOS, thumbnails of Synology's servers
MAX_KINDS = 100
SHOWN_KINDS = 10
SHORT_ENDING = re.compile(r"\.[a-z0-9_]{1,10}")
IMAGE_ENDINGS = frozenset(chain.from_iterable(ENDINGS.values()))
# Files that end so are never opened to look for an image. This list only saves time.
OTHER_ENDINGS = frozenset(
    (
        *(".caption", ".cls", ".csv", ".html", ".json", ".jsonl", ".log", ".md", ".tsv", ".txt"),
        *(".arrow", ".h5", ".npy", ".npz", ".parquet", ".pkl", ".pt", ".pth", ".safetensors"),
        *(".bz2", ".gz", ".pdf", ".py", ".sh", ".toml", ".xml", ".xz", ".yaml", ".yml", ".zip"),
        *(".avi", ".mkv", ".mov", ".mp3", ".mp4", ".mpg", ".wav", ".webm", ".zst"),
    )
)


def is_image(name: str, head: Callable[[], bytes]) -> bool:
    """Return whether a file is an image that can be opened.

    Its ending decides. If that tells nothing, as in "photo", "photo.jpg_large" or
    "photo.jpg?width=640", its first bytes decide.

    Args:
        name: the file's name, without folders.
        head: a function that reads the file's first `formats.HEAD` bytes.
    """
    ending = ending_of(name)
    if ending in endings():
        return True
    if ending in OTHER_ENDINGS:
        return False
    found = image_format(head())
    if found == "TIFF":  # many formats that Pillow cannot read, such as camera raw, begin like TIFF
        return can_open(found) and (not ending or ending.startswith(".tif"))
    return found is not None and found != "PPM" and can_open(found)  # text may begin like PPM


def is_hidden(name: str) -> bool:
    """Return whether a file or folder with this name is hidden."""
    return name[:1] == "." or name in HIDDEN_NAMES


def ending_of(name: str) -> str:
    """Return the ending of a file's name with its dot, in lower case, or "" if it has none."""
    stem, dot, ending = name.rpartition(".")
    return dot + ending.lower() if stem and ending else ""


def without_ending(name: str) -> str:
    """Remove the ending of an image file from its name.

    Other endings are kept, since files such as "a.jpg?width=320" and "a.jpg?width=640" differ by
    them alone.
    """
    ending = ending_of(name)
    return name[: -len(ending)] if ending in IMAGE_ENDINGS else name


def kind_of(name: str) -> str:
    """Name the kind of a file that is not an image: its ending, if that is short and plain."""
    ending = ending_of(name)
    if SHORT_ENDING.fullmatch(ending):
        return ending
    return "with another ending" if ending else "without an ending"


def bounded(left_out: Counter[str]) -> dict[str, int]:
    """Return the counts of the most frequent kinds, and of all others together."""
    kinds = left_out.most_common(MAX_KINDS)
    others = left_out.total() - sum(count for _, count in kinds)
    return dict(sorted(kinds)) | ({"of other kinds": others} if others else {})


def summary(left_out: Mapping[str, int]) -> str:
    """Describe counts in a line, such as "left out: 12 .txt, 3 hidden"."""
    kinds = sorted(left_out.items(), key=lambda each: (-each[1], each[0]))
    parts = [f"{count:,} {kind}{_advice(kind)}" for kind, count in kinds[:SHOWN_KINDS]]
    if rest := sum(count for _, count in kinds[SHOWN_KINDS:]):
        parts.append(f"{rest:,} of other kinds")
    return f"left out: {', '.join(parts)}"


def _advice(kind: str) -> str:
    missing = kind in ENDINGS["HEIC"] and not can_open("HEIC")
    return " (to read them: pip install 'aura-jax[heif]')" if missing else ""

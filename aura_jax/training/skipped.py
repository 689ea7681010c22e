"""The record of images that a run skips."""

import dataclasses
import json
from functools import partial
from pathlib import Path

import msgspec

from aura_jax.errors import counted
from aura_jax.images.readers import check_skipped
from aura_jax.training.json_lines import read_lines

MAX_SKIPPED = 0.1  # of all images; if more are skipped, the data set is probably wrong


@dataclasses.dataclass(frozen=True)
class Skipped:
    """A record of skipped images, in a file that all decoding processes append to.

    Attributes:
        path: the file of JSON lines, each of which is a name and the reason.
        total: the number of images, of which at most a tenth may be skipped.
    """

    path: Path
    total: int

    def read(self) -> dict[str, str]:
        """Read the reason for skipping each image, by its name."""
        convert = partial(msgspec.convert, type=tuple[str, str])
        return dict(read_lines(self.path, convert))

    def add(self, name: str, reason: str) -> None:
        """Record a skipped image, if it is not recorded yet.

        Raises:
            ImageError: as `check`.
        """
        if name not in self.read():
            with self.path.open("a") as file:  # in one write, which processes cannot interleave
                file.write(json.dumps([name, reason]) + "\n")
        self.check()

    def check(self) -> None:
        """Check that at most a tenth of the images are skipped.

        Raises:
            ImageError: if more are; the message has the first reasons.
        """
        limit, total = int(MAX_SKIPPED * self.total), counted(self.total, "image")
        check_skipped(self.read(), limit, f"a tenth of {total}")

"""What is done of a cache, told to its folder and to the terminal."""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rich.progress import Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from aura_jax.console import messages, progress
from aura_jax.latents.encode_shard import check_bad
from aura_jax.latents.manifest import Shard
from aura_jax.latents.workspace import CacheFolder


class Report:
    """Notes shards as they are done, counts, and stops the work past `max_bad`.

    Args:
        folder: where shards are noted.
        done: those of before, whose bad pictures count too.
        max_bad: pictures that may be left out.
        bar: with one task, of pictures.

    Attributes:
        left_out: why pictures are left out of the shards that are done, by their keys.
    """

    def __init__(self, folder: CacheFolder, done: Mapping[str, Shard], max_bad: int, bar: Progress):
        self._folder, self._max_bad, self._bar = folder, max_bad, bar
        self._lock = threading.Lock()
        self._started = time.perf_counter()
        self._latents = 0
        self.left_out: dict[str, str] = {}
        for shard in done.values():
            self.left_out |= shard.skipped
        check_bad(self.left_out, max_bad)

    @property
    def rate(self) -> float:
        """Latents a second."""
        return self._latents / (time.perf_counter() - self._started)

    def encoded(self, count: int) -> None:
        """Latents of a shard in the making."""
        with self._lock:
            self._latents += count
        self._bar.advance(self._bar.task_ids[0], count)

    def done(self, shard: Shard) -> None:
        """A shard that is whole.

        Raises:
            CacheError: if too many pictures are left out by now.
        """
        self._folder.note(shard)
        with self._lock:
            self.left_out |= shard.skipped
        self._bar.advance(self._bar.task_ids[0], len(shard.skipped))
        self._bar.update(self._bar.task_ids[0], bad=len(self.left_out))
        line = f"{shard.file}: {shard.count} latents, {len(shard.skipped)} pictures left out"
        messages.print(f"{line}, {self.rate:.1f} images/s")
        check_bad(self.left_out, self._max_bad)


@contextmanager
def progress_bar(pictures: int) -> Iterator[Progress]:
    """A bar of pictures with images/s, the time that is left, and the bad ones."""
    columns = (_Speed(), TimeRemainingColumn(), TextColumn("{task.fields[bad]} bad"))
    with progress(*columns) as bar:
        bar.add_task("pictures", total=pictures, bad=0)
        yield bar


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or 0:.1f} images/s")

"""The progress bar of aura-jax cache make."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.progress import Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from aura_jax.cli.run import StoppedError
from aura_jax.console import messages, progress
from aura_jax.errors import counted
from aura_jax.latents.progress import Listener

if TYPE_CHECKING:
    from aura_jax.latents.manifest import Shard


@contextmanager
def watched() -> Iterator[Listener]:
    """Show a progress bar with the speed, the remaining time, and the number of skipped images.

    Raises:
        StoppedError: on Ctrl-C.
    """
    columns = _Speed(), TimeRemainingColumn(), TextColumn("{task.fields[skipped]} skipped")
    try:
        with progress(*columns) as bar:
            yield _Bar(bar)
    except KeyboardInterrupt:
        raise StoppedError("the same command resumes after the last whole shard") from None


class _Bar(Listener):
    """A progress bar on stderr, with a line for each finished shard."""

    def __init__(self, bar: Progress):
        self._bar, self._latents, self._skipped = bar, 0, 0
        self._task = bar.add_task("images", total=None, skipped=0)
        self._started = time.perf_counter()

    def started(self, examples: int) -> None:
        self._started = time.perf_counter()
        self._bar.update(self._task, total=examples)

    def encoded(self, count: int) -> None:
        self._latents += count
        self._bar.advance(self._task, count)

    def finished(self, shards: Sequence["Shard"]) -> None:
        skipped = sum(len(shard.skipped) for shard in shards)
        self._skipped += skipped
        self._bar.update(self._task, advance=skipped, skipped=self._skipped)
        rate = self._latents / (time.perf_counter() - self._started)
        first, several = shards[0], len(shards) > 1
        messages.print(
            f"{f'{first.index:05}' if several else first.file}: "
            f"{counted(sum(shard.count for shard in shards), 'latent')}"
            f"{f' of {len(shards)} sizes' if several else ''}, "
            f"{counted(skipped, 'image')} skipped, {rate:.1f} images/s"
        )


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or 0:.1f} images/s")

"""The terminal: results on stdout, messages and progress bars on stderr."""

from typing import TYPE_CHECKING

from rich.console import Console

from aura_jax.errors import printable

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn

# File names are printed verbatim: no markup, no emoji codes, no highlighted numbers.
console = Console(markup=False, emoji=False, highlight=False)
messages = Console(markup=False, emoji=False, highlight=False, stderr=True)


def say(line: str) -> None:
    """Print a line of results, never broken at the terminal's width."""
    console.print(_escaped(line), soft_wrap=True)


def warn(line: str, style: str | None = None) -> None:
    """Print a message on stderr, never broken at the terminal's width."""
    messages.print(_escaped(line), style=style, soft_wrap=True)


def _escaped(message: str) -> str:
    """Escape control characters other than line breaks, which names of files may contain."""
    return "\n".join(printable(line, len(line)) for line in message.split("\n"))


def progress(*columns: "ProgressColumn") -> "Progress":
    """Make a progress bar on stderr, which is shown only if stderr is a terminal.

    Args:
        columns: the columns after the bar; by default the elapsed time.
    """
    from rich.progress import (  # late, since `--help` does not need it
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
    )

    return Progress(
        *(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()),
        *(columns or (TimeElapsedColumn(),)),
        console=messages,
        transient=True,
        disable=not messages.is_terminal,
    )

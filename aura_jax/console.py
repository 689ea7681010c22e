"""The terminal: results on stdout, messages and progress bars on stderr."""

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)

# Names of files are printed as they are: no markup, no emoji codes, no colors of numbers.
console = Console(markup=False, emoji=False, highlight=False)
messages = Console(markup=False, emoji=False, highlight=False, stderr=True)


def say(line: str) -> None:
    """Prints a line of results, never broken at the terminal's width."""
    console.print(line, soft_wrap=True)


def progress(*columns: ProgressColumn) -> Progress:
    """A progress bar on stderr, if that is a terminal; stdout holds results only.

    `columns` stand behind the bar; the time that has passed does by default.
    """
    return Progress(
        *(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()),
        *(columns or (TimeElapsedColumn(),)),
        console=messages,
        transient=True,
        disable=not messages.is_terminal,
    )

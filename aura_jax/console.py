"""What the commands share: the terminal, progress bars, and errors without tracebacks."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import jax
import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)

from aura_jax.errors import AuraError

# Names of files are printed as they are: no markup, no emoji codes, no colours of numbers.
console = Console(markup=False, emoji=False, highlight=False)
messages = Console(markup=False, emoji=False, highlight=False, stderr=True)


def run(app: typer.Typer) -> None:
    """Runs a command; what a user can mend is one line on stderr and exit status 1."""
    try:
        app()
    except (AuraError, OSError) as error:
        messages.print(f"error: {error}", style="red", soft_wrap=True)
        sys.exit(1)
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in str(error):
            raise
        messages.print("error: out of memory; take smaller pictures or batches", style="red")
        sys.exit(1)


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Around imports of what only an extra of the package installs.

    Raises:
        AuraError: if it is not installed, with how to install it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package == "aura_jax":
            raise
        raise AuraError(f'{package} is not installed: pip install "aura-jax[{extra}]"') from None


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


def readable_bytes(count: int) -> str:
    """1234567 as 1.2 MB (powers of 1000)."""
    size, unit = float(count), "B"
    for larger in ("kB", "MB", "GB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"

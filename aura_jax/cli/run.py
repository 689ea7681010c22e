"""Run a command, with exit codes, errors without tracebacks, and results as lines or JSON."""

import json
import os
import sys
from collections.abc import Iterable
from typing import Any, NoReturn

import typer

from aura_jax.cli.start import INTERRUPTED
from aura_jax.console import messages, say, warn
from aura_jax.errors import AuraError

# Typer 0.29 defaults to None for these, and imports pydantic (0.15 s) to convert None to a bool.
FALSE = dict.fromkeys(("help", "install_completion", "show_completion"), False)
DEFAULTS = {**FALSE, "cache": FALSE}


class StoppedError(Exception):
    """Ctrl-C stopped a command that has saved its work; the message says how to resume it."""


def new_app(**settings: Any) -> typer.Typer:
    """Make an app that accepts -h for --help and leaves its errors to `run`.

    Args:
        settings: other arguments of `typer.Typer`.
    """
    return typer.Typer(
        context_settings={"help_option_names": ["-h", "--help"], "default_map": DEFAULTS},
        pretty_exceptions_enable=False,
        **settings,
    )


def run(app: typer.Typer) -> None:
    """Run a command and exit.

    An error that the user can fix is one line on stderr and exit status 1. After Ctrl-C the line
    is "interrupted", perhaps with advice, and the status 130, which Typer uses too.
    """
    try:
        app()
    except StoppedError as stop:
        messages.print(f"interrupted; {stop}", soft_wrap=True)
        if isinstance(stop.__context__, KeyboardInterrupt):
            _leave()
        sys.exit(INTERRUPTED)
    except (KeyboardInterrupt, SystemExit) as end:
        if getattr(end, "code", INTERRUPTED) == INTERRUPTED:
            messages.print("interrupted")
            _leave()
        raise
    except (AuraError, OSError) as error:
        warn(f"error: {error}", style="red")
        sys.exit(1)
    except Exception as error:
        if not _is_out_of_memory(error):
            raise
        messages.print("error: out of memory; use smaller images or batches", style="red")
        sys.exit(1)


def _leave() -> NoReturn:
    """Exit after Ctrl-C without waiting for threads.

    A thread never ends if Ctrl-C came just when a pool of concurrent.futures (of Python 3.12) had
    started it. Also, Python would kill itself if the interrupt came in code run by `exec`.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(INTERRUPTED)


def report(results: Any, lines: Iterable[str], *, as_json: bool) -> None:
    """Print results on stdout: one JSON document for scripts, or lines for people."""
    if as_json:
        print(json.dumps(results, allow_nan=False))
        return
    for line in lines:
        say(line)


def _is_out_of_memory(error: Exception) -> bool:
    """Recognize JAX's error by its class name, since importing JAX would slow every command."""
    if isinstance(error, MemoryError):
        return True
    return type(error).__name__ == "JaxRuntimeError" and "RESOURCE_EXHAUSTED" in str(error)

"""The entry point of aura-jax, which handles Ctrl-C from its first line on.

It imports little, since a Ctrl-C before `main` prints a traceback, as one in Python's own start.
"""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

INTERRUPTED = 130  # the exit status of shells for a command that Ctrl-C ended


def main() -> None:
    """Run the command aura-jax."""
    sys.unraisablehook = exit_if_interrupted
    with importing():
        from aura_jax.cli.app import main as command
    command()


@contextmanager
def importing() -> Iterator[None]:
    """Exit at once on Ctrl-C while the block imports modules, before anything is written.

    KeyboardInterrupt does not suffice: raised inside an import it may be swallowed, turned into an
    ImportError or printed with a traceback, for example by `import_array` of numpy's C API.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield  # ignored, as under nohup, or handled by another package
        return
    signal.signal(signal.SIGINT, exit_at_once)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def exit_if_interrupted(ignored: "sys.UnraisableHookArgs") -> None:
    """Exit on a KeyboardInterrupt that Python would ignore, and report other exceptions as Python.

    Callbacks of the garbage collector ignore what is raised in them, and JAX has one.
    """
    if issubclass(ignored.exc_type, KeyboardInterrupt):
        exit_at_once()
    sys.__unraisablehook__(ignored)


def exit_at_once(*_: object) -> None:
    """Print one line and exit with status 130, as a signal handler."""
    os.write(2, b"interrupted\n")
    os._exit(INTERRUPTED)

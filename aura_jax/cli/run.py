"""Running a command: errors without tracebacks, and exit codes."""

import sys

import typer

from aura_jax.console import messages
from aura_jax.errors import AuraError


def run(app: typer.Typer) -> None:
    """Run a command; an error that the user can mend is one line on stderr and exit status 1."""
    try:
        app()
    except (AuraError, OSError) as error:
        messages.print(f"error: {error}", style="red", soft_wrap=True)
        sys.exit(1)
    except Exception as error:
        if not _is_out_of_memory(error):
            raise
        messages.print("error: out of memory; use smaller images or batches", style="red")
        sys.exit(1)


def _is_out_of_memory(error: Exception) -> bool:
    """Recognize JAX's error by its name, since importing JAX for it would slow every command."""
    if isinstance(error, MemoryError):
        return True
    return type(error).__name__ == "JaxRuntimeError" and "RESOURCE_EXHAUSTED" in str(error)

"""Commands, run in this process."""

import typer
from typer.testing import CliRunner


def invoke(app: typer.Typer, *words: object) -> str:
    """Runs a command; raises what it raises, returns what it prints."""
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout

"""The command before its work: help, version, completion, and Ctrl-C while modules are imported."""

import json
import os
import re
import signal
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import aura_jax
from aura_jax.cli.app import app
from aura_jax.cli.run import StoppedError, new_app, run
from aura_jax.cli.start import importing
from tests.commands import invoke, start
from tests.conftest import ROOT

COMMANDS = [
    *(["reconstruct"], ["encode"], ["decode"], ["flip"], ["info"], ["train"]),
    *(["evaluate"], ["equivariance"], ["export"], ["demo"]),
    *(["cache", "make"], ["cache", "verify"], ["cache", "stats"]),
]
HEAVY = {
    "jax",
    "flax",
    "numpy",
    "pydantic",
    "PIL",
    "grain",
    "gradio",
    "matplotlib",
    "optax",
    "orbax",
    "torch",
}
LISTED = """
import json, sys
from aura_jax.cli.start import main
try:
    main()
except SystemExit:
    print(json.dumps([*sys.modules]), file=sys.stderr)
"""


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_ends_with_an_example(words: list[str]):
    shown = invoke(app, *words, "--help")
    example = " ".join(shown.split("Example: ")[1].split())
    assert example.startswith(f"aura-jax {' '.join(words)} ")
    options = {word for word in example.split() if word.startswith("-")}
    assert options <= set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", shown))


def test_help_imports_nothing_heavy():
    helps = [[*words, "--help"] for words in ([], ["encode"], ["train"], ["cache", "make"])]
    for words in (*helps, ["--version"]):
        listed = subprocess.run(
            [sys.executable, "-c", LISTED, *words], capture_output=True, text=True, check=True
        )
        assert not HEAVY & {*json.loads(listed.stderr)}, words


def test_short_help():
    assert invoke(app, "-h") == invoke(app, "--help")
    assert invoke(app, "cache", "make", "-h") == invoke(app, "cache", "make", "--help")
    assert "-h" in invoke(app, "flip", "--help").split("--horizontal")[1].split("\n")[0]
    assert invoke(app, "info", "--help").count("Usage:") == 1


def test_version():
    assert invoke(app, "--version") == f"aura-jax {aura_jax.__version__}\n"


def test_completion(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setenv("_AURA_JAX_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "aura-jax rec")
    monkeypatch.setenv("COMP_CWORD", "1")
    with pytest.raises(SystemExit):
        typer.main.get_command(app).main(["rec"], prog_name="aura-jax")
    assert capsys.readouterr().out.split() == ["reconstruct"]
    assert "--install-completion" in invoke(app, "--help")


def test_the_installed_command_starts_guarded():
    (line,) = re.findall(r'^aura-jax = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    main = EntryPoint("aura-jax", line, "console_scripts").load()
    assert main.__module__ == "aura_jax.cli.start"


@pytest.mark.parametrize("dtype", ["bf16", "bfloat16", "int4"])
def test_dtypes_have_long_and_short_names(dtype: str):
    words = ["encode", "no such.png", "--out", "z.st", "--compute-dtype", dtype]
    result = CliRunner().invoke(app, words)
    if dtype == "int4":
        assert result.exit_code == 2
        assert "'--compute-dtype': dtype 'int4': expected" in result.stderr
    else:
        assert "no such file or folder" in str(result.exception)


# Modules that are imported early in the start, late in it, and by the command itself.
@pytest.mark.parametrize("module", ["typer.colors", "rich.console", "jax._src.config"])
def test_ctrl_c_during_imports_is_one_line(module: str):
    process = start("info", "small", python=("-X", "importtime"))
    with process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.split("|")[-1].strip() == module:
                process.send_signal(signal.SIGINT)
                break
        lines = process.communicate(timeout=60)[1].splitlines()
    assert [line for line in lines if not line.startswith("import time:")] == ["interrupted"]
    assert process.returncode == 130


def test_an_ignored_ctrl_c_stays_ignored():
    """Under nohup SIGINT is ignored; a guard that replaced the handler would exit here."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with importing():
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


INTERRUPTED = """
import gc, sys, threading
from aura_jax.cli import app, start

def wait():
    threading.Thread(target=threading.Event().wait).start()

def interrupt(*_):
    gc.callbacks.clear()
    raise KeyboardInterrupt

def command():
    app.run(lambda: {body})

app.main = command
start.main()
"""


@pytest.mark.parametrize(
    "body",
    [
        "exec('interrupt()')",
        "gc.callbacks.append(interrupt) or gc.collect()",
        "wait() or interrupt()",
    ],
)
def test_ctrl_c_in_code_that_hides_it(body: str, tmp_path: Path):
    """Python ignores it in a callback, ends itself after it in `exec`, and waits for threads."""
    (tmp_path / "interrupted.py").write_text(INTERRUPTED.replace("{body}", body))
    process = subprocess.run(
        [sys.executable, "-m", "interrupted"],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (process.returncode, process.stderr) == (130, "interrupted\n")


def test_a_command_that_saved_says_so_in_the_same_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    stopping = new_app(add_completion=False)

    @stopping.command()
    def stop() -> None:
        raise StoppedError("the same command resumes it")

    monkeypatch.setattr(sys, "argv", ["stop"])
    with pytest.raises(SystemExit, match="130"):
        run(stopping)
    assert capsys.readouterr().err == "interrupted; the same command resumes it\n"

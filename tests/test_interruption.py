"""Ctrl-C and other signals in a command that saves before it stops."""

import os
import signal
import subprocess
import sys

import pytest

from aura_jax.cli.interruption import interruption
from aura_jax.signals import STOPS
from tests.conftest import ROOT

STARTING = """
import signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from aura_jax.cli.interruption import interruption
with interruption():
    print("ready", flush=True)
    try:
        time.sleep(60)
    except BaseException:
        print("an import may swallow what a handler raises")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_at_once_while_the_command_starts(number: signal.Signals) -> None:
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", STARTING]
    process = subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    assert process.communicate(timeout=30) == ("", "interrupted\n")
    assert process.returncode == 130


@pytest.mark.parametrize("number", sorted(STOPS))
def test_deferred_once_the_run_can_save(number: signal.Signals) -> None:
    before = signal.signal(number, signal.default_int_handler)
    try:
        with interruption() as answer:
            answer.defer()
            os.kill(os.getpid(), number)
            assert answer.received
            with pytest.raises(KeyboardInterrupt):  # a second one takes effect at once
                signal.raise_signal(number)
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, before)


def test_ignored_signals_stay_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interruption() as answer:
            signal.raise_signal(signal.SIGINT)
            assert not answer.received
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)

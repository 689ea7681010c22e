"""Handle the signals that ask a command to stop, such as Ctrl-C, by saving first."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from aura_jax.cli.start import exit_at_once
from aura_jax.signals import STOPS


class Interruption:
    """A handler of signals that exits at once or, after `defer`, only records the signal.

    Attributes:
        received: whether a signal was recorded.
    """

    def __init__(self) -> None:
        self.received = False
        self._deferred = False
        self._before = {
            number: handler
            for number in STOPS
            if (handler := signal.getsignal(number)) != signal.SIG_IGN  # as under nohup
        }

    def defer(self) -> None:
        """Only record the first signal from now on; a second one takes effect at once."""
        self._deferred = True

    def install(self) -> None:
        """Start to handle signals."""
        for number in self._before:
            signal.signal(number, self._answer)

    def restore(self) -> None:
        """Restore the previous signal handlers."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _answer(self, number: int, frame: FrameType | None) -> None:
        if not self._deferred:
            exit_at_once()
        self.received = True
        self.restore()


@contextmanager
def interruption() -> Iterator[Interruption]:
    """Handle STOPS in the block, instead of Python's KeyboardInterrupt."""
    answer = Interruption()
    answer.install()
    try:
        yield answer
    finally:
        answer.restore()

"""Run steps in order of importance, within a time budget, and keep the result of each."""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from aura_jax.console import messages
from benchmarks.record import write_json


@dataclasses.dataclass(frozen=True)
class Step:
    """A measurement.

    Attributes:
        name: the name in results.
        seconds: about how long it takes: it is dropped if less time is left.
        measure: returns its result as values of JSON.
    """

    name: str
    seconds: float
    measure: Callable[[], Any]


class Record:
    """The results of steps, which are written to a file after each of them.

    Args:
        out: the JSON file; None keeps the results in memory only.
        head: the description of the machine and the run.

    Attributes:
        results: the results by step.
        errors: the errors of the steps that failed.
        dropped: the steps that were not run for lack of time.
    """

    def __init__(self, out: Path | None, head: Mapping[str, Any]):
        self._out, self._head, self._seconds = out, head, {}
        self.results: dict[str, Any] = {}
        self.errors: dict[str, str] = {}
        self.dropped: list[str] = []

    def run(self, steps: Sequence[Step], seconds_left: Callable[[], float]) -> None:
        """Run the steps for which enough time is left; one that fails does not stop the others."""
        for step in steps:
            left = seconds_left()
            if left < step.seconds:
                self._drop(
                    step.name, f"takes about {step.seconds:.0f} s, and {left:.0f} s are left"
                )
            else:
                self._measure(step, seconds_left)
            self.write()

    def write(self, **more: Any) -> None:
        """Write what is known so far.

        Args:
            more: further fields of the file.
        """
        if self._out is not None:
            fields = ("results", "errors", "dropped")
            mine = {"seconds": self._seconds, **{name: getattr(self, name) for name in fields}}
            write_json(self._out, {**self._head, **mine, **more})

    def _measure(self, step: Step, seconds_left: Callable[[], float]) -> None:
        messages.print(f"measuring {step.name}")
        start = time.monotonic()
        try:
            self.results[step.name] = step.measure()
        except Exception as error:
            if seconds_left() <= 0:
                self._drop(step.name, "was not finished in time")
            else:
                self.errors[step.name] = f"{type(error).__name__}: {error}"
                messages.print(f"{step.name}: {self.errors[step.name]}", style="red")
        self._seconds[step.name] = round(time.monotonic() - start, 1)

    def _drop(self, name: str, reason: str) -> None:
        self.dropped.append(name)
        messages.print(f"dropped {name}: {reason}")

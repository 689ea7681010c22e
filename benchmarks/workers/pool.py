"""Workers that serve many cases, until a deadline."""

import threading
import time
from typing import Self

from aura_jax.errors import AuraError
from benchmarks.workers.process import Worker


class Pool:
    """Workers by name, each started when it is first needed and again after it has ended.

    Args:
        seconds: the time after which all workers are killed, which fails the request that waits.
        variables: environment variables of all workers.
    """

    def __init__(self, seconds: float, **variables: str):
        self._workers: dict[str, Worker] = {}
        self._variables, self._end = variables, time.monotonic() + seconds
        self._timer = threading.Timer(seconds, self._kill)
        self._timer.daemon = True

    @property
    def seconds_left(self) -> float:
        """The time until the deadline."""
        return self._end - time.monotonic()

    def get(self, name: str, module: str, **variables: str) -> Worker:
        """Return the worker of a name.

        Args:
            name: any name.
            module: the module of `benchmarks.workers` that it runs.
            variables: more environment variables.

        Raises:
            AuraError: if the deadline has passed.
        """
        if self.seconds_left <= 0:
            raise AuraError(f"{name}: not started, since the time is used up")
        if name in self._workers and not self._workers[name].is_alive:
            self.close(name)
        if name not in self._workers:
            self._workers[name] = Worker(module, **self._variables, **variables)
            if self.seconds_left <= 0:  # after the timer has looked
                self._kill()
        return self._workers[name]

    def close(self, *names: str) -> None:
        """End the workers of these names, if they run; without names, all."""
        for name in names or [*self._workers]:
            worker = self._workers.pop(name, None)
            if worker is not None:
                worker.close()

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        self.close()

    def _kill(self) -> None:
        for worker in [*self._workers.values()]:
            worker.kill()

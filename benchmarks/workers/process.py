"""Start a worker process, send it requests, and end it."""

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from aura_jax.errors import AuraError

ROOT = Path(__file__).parent.parent.parent
ENVIRONMENT = {
    # Several workers share a GPU, so none may allocate all of its memory.
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    # Compilation is timed, so it must not be cached.
    "JAX_ENABLE_COMPILATION_CACHE": "false",
    # With the default, some compiled kernels of PyTorch 2.14 are slower.
    "TORCHINDUCTOR_LOOP_REINDEXING_AFTER_FUSION": "0",
}
PATIENCE = 30  # seconds that a process has to end by itself


class Worker:
    """A process that answers requests: one line of JSON for each request and each answer.

    Args:
        module: the name of a module in this package.
        variables: environment variables, in addition to those of this process.
    """

    def __init__(self, module: str, **variables: str):
        self._module = module
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"{__package__}.{module}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, **ENVIRONMENT, **variables},
        )

    def ask(self, method: str, **arguments: Any) -> Any:
        """Call a method of the worker and wait for its result.

        Raises:
            AuraError: if the method raises, or the process has ended.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):  # the missing reply is reported below
            print(json.dumps([method, arguments]), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            raise AuraError(f"{self._module}: ended in {method}, status {self._process.wait()}")
        error, result = json.loads(line)
        if error is not None:
            raise AuraError(f"{self._module}: {method} failed: {error}")
        return result

    @property
    def is_alive(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    def kill(self) -> None:
        """End the process at once, so that a request that waits for it raises."""
        self._process.kill()

    def close(self) -> None:
        """End the process, which frees its memory."""
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            with suppress(BrokenPipeError):
                stream.close()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

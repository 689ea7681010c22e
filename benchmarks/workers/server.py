"""The parts that both workers share: the request loop, clocks and memory."""

import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

# A single call after another variant's would run with cold caches and slow clocks.
REPEAT_SECONDS = 0.2


def serve(worker: object) -> None:
    """Call a method for each line on stdin, and reply with a line of [error, result]."""
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # libraries may print too
    for line in sys.stdin:
        method, arguments = json.loads(line)
        try:
            reply = (None, getattr(worker, method)(**arguments))
        except Exception as error:
            traceback.print_exc()
            reply = (f"{type(error).__name__}: {error}", None)
        print(json.dumps(reply), file=replies, flush=True)


def seconds_of(call: Callable[[], object]) -> float:
    """Measure the wall-clock seconds of a call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def repeat(call: Callable[[], object]) -> list[float]:
    """Call repeatedly for REPEAT_SECONDS, at least once; return the seconds of each call."""
    seconds = [seconds_of(call)]
    while sum(seconds) < REPEAT_SECONDS:
        seconds.append(seconds_of(call))
    return seconds


def teraflops(products: Callable[[], object], count: int, side: int) -> float:
    """Return the tera-operations per second of `count` products of side × side matrices."""
    fastest = min(seconds_of(products) for _ in range(5))
    return count * 2 * side**3 / fastest / 1e12


def resident_peak() -> int:
    """Return the peak resident memory of this process in bytes, as Linux counts it."""
    status = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in status if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024

"""What both workers do alike: answer requests, take times, know their size."""

import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

REPEAT_SECONDS = 0.2  # a call alone, after others have run, finds cold caches and slow clocks


def serve(worker: object) -> None:
    """Calls a method for each line on stdin, until its end; replies are [error, result]."""
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print is no reply
    for line in sys.stdin:
        method, arguments = json.loads(line)
        try:
            reply = (None, getattr(worker, method)(**arguments))
        except Exception as error:
            traceback.print_exc()
            reply = (f"{type(error).__name__}: {error}", None)
        print(json.dumps(reply), file=replies, flush=True)


def seconds_of(call: Callable[[], object]) -> float:
    """Wall-clock seconds of a call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def repeat(call: Callable[[], object]) -> list[float]:
    """Seconds of each of as many calls as fill a repeat, one at least."""
    seconds = [seconds_of(call)]
    while sum(seconds) < REPEAT_SECONDS:
        seconds.append(seconds_of(call))
    return seconds


def teraflops(products: Callable[[], object], count: int, side: int) -> float:
    """Tera-operations a second of a call that multiplies side × side matrices `count` times."""
    fastest = min(seconds_of(products) for _ in range(5))
    return count * 2 * side**3 / fastest / 1e12


def resident_peak() -> int:
    """Bytes of memory that this process has held at most, as Linux counts them."""
    status = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in status if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024

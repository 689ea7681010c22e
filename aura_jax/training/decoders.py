"""The processes that decode images for a run, which start and end with it."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker

import grain
from absl import flags

from aura_jax.signals import STOPS


def in_processes[Item](data: grain.IterDataset[Item], workers: int) -> grain.IterDataset[Item]:
    """Read a data set in processes, which start when `data.fetch` takes its first item."""
    if not flags.FLAGS.is_parsed():  # Grain 0.2 reads flags, which only absl's apps parse
        flags.FLAGS.mark_as_parsed()
    resource_tracker.ensure_running()  # started inside `stops_blocked` it would unblock signals
    options = grain.MultiprocessingOptions(num_workers=workers)
    return data.mp_prefetch(options, worker_init_fn=_end_with_parent)


@contextmanager
def stops_blocked() -> Iterator[None]:
    """Block STOPS in the block, so that decoding processes that start in it inherit the mask.

    Terminals and schedulers send signals to all processes, but only the run may handle them: it
    saves first, then ends its workers. A signal during the block is delivered to this process after
    the block.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_with_parent(worker: int, workers: int) -> None:
    """Make a decoding process exit with its run, even if that is killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()

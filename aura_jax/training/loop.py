"""The loop of a run: resume, step, record, save, and stop when something is wrong."""

import dataclasses
import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grain
import jax
import numpy as np
from jax.experimental import multihost_utils

from aura_jax.checkpoint.loading import save
from aura_jax.errors import AuraError, TrainingError
from aura_jax.images.io import write_image
from aura_jax.training.checkpointing import Checkpoints
from aura_jax.training.data import Batch, Skipped, fetch
from aura_jax.training.plots import loss_curve, samples
from aura_jax.training.step import Metrics, Trainer, TrainState
from aura_jax.training.workdir import RunFolder

type Record = dict[str, float | int]
type Observer = Callable[[Record], None]


@dataclasses.dataclass(frozen=True)
class Every:
    """After how many steps something is done."""

    record: int = 10
    save: int = 1000
    picture: int = 1000


class Run:
    """A run of a trainer in a folder, from its last checkpoint on.

    Args:
        trainer: what to do in a step.
        data: batches; set to where the last checkpoint was.
        skipped: which pictures are left out.
        folder: where to write.
        every: how often to write.

    Attributes:
        observe: is given the metrics of every step, with the step, as numbers.
    """

    def __init__(
        self,
        trainer: Trainer,
        data: grain.DatasetIterator[Batch],
        skipped: Skipped,
        folder: RunFolder,
        *,
        every: Every = Every(),
    ):
        self.trainer, self.data, self.skipped = trainer, data, skipped
        self.folder, self.every = folder, every
        self.observe: Observer = lambda metrics: None
        self.checkpoints = Checkpoints(folder.checkpoints)
        self.writes = jax.process_index() == 0
        self._key = jax.random.key(trainer.recipe.seed)
        self._pending: tuple[int, Batch, Metrics] | None = None
        self._settled = time.monotonic()

    def resume(self) -> TrainState:
        """The state to go on from: the last checkpoint's, or the start."""
        state = self.trainer.start()
        if self.checkpoints.last is not None:
            state = self.checkpoints.restore(state, self.data)
        if self.writes:
            self.folder.rewind(int(state.step))
        return state

    def train(self, state: TrainState) -> bool:
        """Trains to the recipe's last step.

        Returns:
            Whether it got there; False if it was interrupted, and can be resumed.

        Raises:
            TrainingError: if a loss is not finite, or a checkpoint cannot be written.
        """
        first, last = int(state.step), self.trainer.recipe.steps
        with interruption() as interrupted:
            for step in range(first + 1, last + 1):
                batch = fetch(self.data, self.skipped)
                key = jax.random.fold_in(self._key, step)
                state, metrics = self.trainer.step(state, batch.images, key)
                self._settle()  # of the step before, while this one runs
                self.checkpoints.check()
                self._pending = (step, batch, metrics)
                stop = _anywhere(interrupted())
                if step % self.every.save == 0 or step == last or stop:
                    self._save(state)
                if step % self.every.picture == 0 or step == last:
                    self._draw(state, step, batch)
                if stop:
                    break
        if first == last:  # it may have been killed between its last checkpoint and its model
            self._save(state)
        self.checkpoints.close()
        return int(state.step) == last

    def _settle(self) -> None:
        """Looks at the last step's metrics, which waits for them.

        Raises:
            TrainingError: if its loss is not finite.
        """
        if self._pending is None:
            return
        step, batch, metrics = self._pending
        self._pending = None
        values = {name: float(value) for name, value in metrics.items()}
        if not math.isfinite(values["loss"] + values["gradient_norm"]):
            files = "\n  ".join(sorted(set(batch.names)))
            raise TrainingError(
                f"step {step}: the loss is {values['loss']}, the norm of its gradient "
                f"{values['gradient_norm']}; {self.checkpoints.last_good()}; the batch's "
                f"pictures were\n  {files}"
            )
        now = time.monotonic()
        seconds, self._settled = round(now - self._settled, 3), now
        line = {"step": step, "size": batch.images.shape[1], "seconds": seconds, **values}
        self.observe(line)
        if self.writes and step % self.every.record == 0:
            self.folder.record(line)

    def _save(self, state: TrainState) -> None:
        self._settle()
        if not self.trainer.is_finite(state):  # nothing that is not finite is ever saved
            raise TrainingError(
                f"step {int(state.step)}: weights have become infinite or NaN; "
                f"{self.checkpoints.last_good()}; take a smaller --learning-rate"
            )
        self.checkpoints.save(state, self.data)
        if self.writes:
            try:
                save(self.trainer.averaged(state), self.folder.model)
            except AuraError as error:
                raise TrainingError(f"{error}; {self.checkpoints.last_good()}") from None

    def _draw(self, state: TrainState, step: int, batch: Batch) -> None:
        self._settle()
        if not self.writes:
            return
        picture = samples(f"step {step}", self.trainer.averaged(state), batch.images)
        write_image(self.folder.picture("samples"), picture)
        if lines := self.folder.read_metrics():
            write_image(self.folder.picture("losses"), loss_curve(lines))


def _anywhere(here: bool) -> bool:
    """Whether something is so in any process: all must stop at the same step."""
    if jax.process_count() == 1:
        return here
    return bool(multihost_utils.process_allgather(np.array(here)).any())


@contextmanager
def interruption() -> Iterator[Callable[[], bool]]:
    """Within it the first Ctrl-C or SIGTERM only makes what it yields true; a second one stops."""
    received = False

    def note(number: int, frame: Any) -> None:
        nonlocal received
        received = True
        for signal_number, handler in before.items():
            signal.signal(signal_number, handler)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, note)
    try:
        yield lambda: received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

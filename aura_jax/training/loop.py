"""The loop of a run: resume, step, record, save, and stop on errors."""

import dataclasses
import math
import time
from collections.abc import Callable

import grain
import jax

from aura_jax.checkpoint.loading import save
from aura_jax.errors import AuraError, TrainingError
from aura_jax.images.io import write_image
from aura_jax.training.checkpointing import Checkpoints, Say
from aura_jax.training.data import Batch, fetch
from aura_jax.training.plots import loss_curve, samples
from aura_jax.training.processes import anywhere
from aura_jax.training.skipped import Skipped
from aura_jax.training.step import Metrics, Trainer, TrainState
from aura_jax.training.workdir import Record, Workdir

type Observer = Callable[[Record], None]


@dataclasses.dataclass(frozen=True)
class Every:
    """The numbers of steps between recorded metrics, checkpoints and plots."""

    record: int = 10
    save: int = 1000
    plot: int = 1000


class Run:
    """A training run in a folder, which continues from its last checkpoint.

    Args:
        trainer: the train step and its recipe.
        data: the iterator of batches, which `resume` moves to the position of the last checkpoint.
        skipped: the record of skipped images.
        workdir: the folder to write to.
        every: the intervals at which to write.
        say: called with lines of information for the user.

    Attributes:
        writes: whether this process writes metrics, plots and the model; only process 0 does.
    """

    def __init__(
        self,
        trainer: Trainer,
        data: grain.DatasetIterator[Batch],
        skipped: Skipped,
        workdir: Workdir,
        *,
        every: Every = Every(),
        say: Say = lambda line: None,
    ):
        self.trainer, self.data, self.skipped = trainer, data, skipped
        self.workdir, self.every = workdir, every
        self.checkpoints = Checkpoints(workdir.checkpoints, say)
        self.writes = jax.process_index() == 0
        self._key = jax.random.key(trainer.recipe.seed)
        self._pending: tuple[int, Batch, Metrics] | None = None
        self._settled = time.monotonic()

    def resume(self) -> TrainState:
        """Restore the state of the last checkpoint, or make the initial state.

        Raises:
            TrainingError: if the checkpoint is damaged.
        """
        state = self.trainer.start()
        if self.checkpoints.last is not None:
            state = self.checkpoints.restore(state, self.data)
        if self.writes:
            self.workdir.rewind(int(state.step))
        return state

    def train(
        self,
        state: TrainState,
        *,
        observe: Observer = lambda metrics: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Train to the recipe's last step.

        Args:
            state: the state that `resume` returned.
            observe: called with a record of every step: its number and its metrics as floats.
            should_stop: called after every step; if it returns True in any process, all processes
                save and stop.

        Returns:
            Whether the last step is done; False if the run was stopped and can be resumed.

        Raises:
            TrainingError: if a loss is not finite, or a checkpoint cannot be written.
            ImageError: if too many images are skipped.
        """
        try:
            return self._train(state, observe, should_stop)
        finally:
            self.workdir.close()

    def records(self, step: int) -> bool:
        """Return whether this process records the metrics of a step."""
        return self.writes and step % self.every.record == 0

    def _train(self, state: TrainState, observe: Observer, should_stop: Callable[[], bool]) -> bool:
        first, last = int(state.step), self.trainer.recipe.steps
        for step in range(first + 1, last + 1):
            batch = fetch(self.data, self.skipped)
            key = jax.random.fold_in(self._key, step)
            state, metrics = self.trainer.step(state, batch.images, key)
            self._settle(observe)  # of the previous step, while this one runs
            self.checkpoints.check()
            self._pending = (step, batch, metrics)
            stop = anywhere(should_stop())
            if step % self.every.save == 0 or step == last or stop:
                self._settle(observe)
                self._save(state)
            if step % self.every.plot == 0 or step == last:
                self._settle(observe)
                self._plot(state, step, batch)
            if stop:
                break
        if first == last:  # an earlier process may have been killed before it saved the model
            self._save(state)
        self.checkpoints.close()
        return int(state.step) == last

    def _settle(self, observe: Observer) -> None:
        """Wait for the metrics of the last step, check and record them, and pass them to `observe`.

        Raises:
            TrainingError: if its loss is not finite.
        """
        if self._pending is None:
            return
        step, batch, metrics = self._pending
        self._pending = None
        values = {name: float(value) for name, value in metrics.items()}
        self._check_finite(step, batch, values)
        now = time.monotonic()
        seconds, self._settled = round(now - self._settled, 3), now
        line = {"step": step, "size": batch.images.shape[1], "seconds": seconds, **values}
        observe(line)
        if self.records(step):
            self.workdir.record(line)

    def _check_finite(self, step: int, batch: Batch, values: dict[str, float]) -> None:
        if not math.isfinite(values["loss"] + values["gradient_norm"]):
            files = "\n  ".join(sorted(set(batch.names)))
            raise TrainingError(
                f"step {step}: the loss is {values['loss']}, the norm of its gradient "
                f"{values['gradient_norm']}; {self.checkpoints.last_good()}; the batch's images "
                f"were\n  {files}"
            )

    def _save(self, state: TrainState) -> None:
        if not self.trainer.is_finite(state):  # only finite parameters are ever saved
            raise TrainingError(
                f"step {int(state.step)}: parameters have become infinite or NaN; "
                f"{self.checkpoints.last_good()}; lower the learning rate"
            )
        self.checkpoints.save(state, self.data)
        if self.writes:
            try:
                save(self.trainer.averaged(state), self.workdir.model)
            except AuraError as error:
                raise TrainingError(f"{error}; {self.checkpoints.last_good()}") from None

    def _plot(self, state: TrainState, step: int, batch: Batch) -> None:
        if not self.writes:
            return
        image = samples(f"step {step}", self.trainer.averaged(state), batch.images)
        write_image(self.workdir.plot("samples"), image)
        if lines := self.workdir.read_metrics():
            write_image(self.workdir.plot("losses"), loss_curve(lines))

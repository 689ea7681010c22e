"""Save and restore the checkpoints of a run with Orbax."""

import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import grain
import jax
import orbax.checkpoint as ocp
from grain.checkpoint import CheckpointRestore, CheckpointSave
from rich.filesize import decimal

from aura_jax.errors import TrainingError
from aura_jax.training.processes import anywhere
from aura_jax.training.step import TrainState

type Say = Callable[[str], None]

KEPT = 2
REASON_END = re.compile(
    r"\n| See full"
)  # what follows in messages of TensorStore is for its authors


class Checkpoints:
    """The checkpoints in a folder; each holds a state and the position in the data.

    The last two are kept. They are written in the background; the next save, or `close`, waits for
    the write. A failed write is raised here; Orbax and asyncio also log it, under "absl" and
    "asyncio".

    Args:
        folder: the folder, which is made if it is missing.
        say: called with a line about each damaged checkpoint.
    """

    def __init__(self, folder: Path, say: Say = lambda line: None):
        self._folder, self._say = folder, say
        options = ocp.CheckpointManagerOptions(max_to_keep=KEPT, cleanup_tmp_directories=True)
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    @property
    def last(self) -> int | None:
        """The step of the last complete checkpoint; None if there is none."""
        return self._manager.latest_step()

    def save(self, state: TrainState, data: grain.DatasetIterator) -> None:
        """Write a checkpoint, unless this step has one.

        Raises:
            TrainingError: if it cannot be written, such as on a full disk.
        """
        step = int(state.step)
        if step == self.last:
            return
        with self._write_errors():
            self._manager.wait_until_finished()
        self._check_space(state)
        with self._write_errors():
            args = ocp.args.Composite(state=ocp.args.StandardSave(state), data=CheckpointSave(data))
            self._manager.save(step, args=args)

    def check(self) -> None:
        """Raise the error of a failed write in the background, if there is one.

        Raises:
            TrainingError: as `save`.
        """
        with self._write_errors():
            self._manager.check_for_errors()

    def restore(self, state: TrainState, data: grain.DatasetIterator) -> TrainState:
        """Read the last checkpoint that is whole, and move the data iterator to its position.

        Later checkpoints are damaged, and are renamed to damaged-STEP.

        Args:
            state: a state with the shapes, dtypes and placement to restore to.
            data: the iterator to move.

        Raises:
            TrainingError: if all checkpoints are damaged, or belong to another model.
        """
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, state)
        args = ocp.args.Composite(
            state=ocp.args.StandardRestore(abstract), data=CheckpointRestore(data)
        )
        damaged: dict[int, str] = {}
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                restored = self._manager.restore(step, args=args)["state"]
            except (MemoryError, jax.errors.JaxRuntimeError):
                raise
            except Exception as error:  # Orbax 0.12 raises a plain Exception for a truncated file
                damaged[step] = REASON_END.split(str(error), maxsplit=1)[0][:200]
            else:
                self._set_aside(damaged, step)
                return restored
        reasons = [f"{self._folder / str(step)}: {reason}" for step, reason in damaged.items()]
        raise TrainingError(
            "no checkpoint can be read; give another folder\n  " + "\n  ".join(reasons)
        )

    def close(self) -> None:
        """Wait until everything is written.

        Raises:
            TrainingError: as `save`.
        """
        with self._write_errors():
            self._manager.close()

    def last_good(self) -> str:
        """Name the checkpoint that a run can be resumed from, for messages.

        This waits for a write in the background.
        """
        with suppress(OSError, ValueError):
            self._manager.wait_until_finished()
        self._manager.reload()  # reads the folder, which never holds a failed checkpoint
        if self.last is None:
            return "no checkpoint yet"
        return f"last good checkpoint: step {self.last}"

    def _set_aside(self, damaged: Mapping[int, str], restored: int) -> None:
        """Rename damaged checkpoints, so that these steps can be saved again."""
        for step, reason in damaged.items():
            place, aside = self._folder / str(step), self._folder / f"damaged-{step}"
            self._say(
                f"{place}: the checkpoint is damaged ({reason}); going back to step {restored}, "
                f"and renaming the damaged one to {aside.name}"
            )
            if jax.process_index() == 0:
                shutil.rmtree(aside, ignore_errors=True)
                place.rename(aside)
        if damaged:
            anywhere(False)  # waits until process 0 has renamed them
            self._manager.reload()

    def _check_space(self, state: TrainState) -> None:
        """Raise an error if the disk has too little space, where Orbax would fail slowly."""
        needed = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
        free = shutil.disk_usage(self._folder).free
        if free < needed:
            raise TrainingError(
                f"a checkpoint of {decimal(needed)} does not fit in the {decimal(free)} "
                f"that are free; {self.last_good()}"
            )

    @contextmanager
    def _write_errors(self) -> Iterator[None]:
        """Turn the errors of a failed write into a TrainingError with the system's reason."""
        try:
            yield
        except (OSError, ValueError) as error:  # TensorStore raises ValueError for all of them
            number = re.search(r"os_error_code='(\d+)'", str(error))
            reason = os.strerror(int(number[1])) if number else error
            raise TrainingError(
                f"a checkpoint could not be written: {reason}; {self.last_good()}"
            ) from None

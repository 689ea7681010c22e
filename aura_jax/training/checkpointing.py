"""A run's checkpoints through Orbax: whole or not there at all, the last few of them."""

import logging
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import grain
import jax
import orbax.checkpoint as ocp
from grain.checkpoint import CheckpointRestore, CheckpointSave

from aura_jax.errors import TrainingError
from aura_jax.training.step import TrainState

KEPT = 2


class Checkpoints:
    """The checkpoints in a folder; each holds a state and the place in the data.

    Writing goes on in the background; the next save, or `close`, waits for it.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        for noisy in ("absl", "asyncio"):  # they log every failed write of what is raised anyway
            logging.getLogger(noisy).setLevel(logging.CRITICAL)
        options = ocp.CheckpointManagerOptions(max_to_keep=KEPT, cleanup_tmp_directories=True)
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    @property
    def last(self) -> int | None:
        """Steps that the last whole checkpoint has done; None if there is none."""
        return self._manager.latest_step()

    def save(self, state: TrainState, data: grain.DatasetIterator) -> None:
        """Writes a checkpoint, if that of this step is not there yet.

        Raises:
            TrainingError: if it cannot be written, such as on a full disk.
        """
        step = int(state.step)
        if step == self.last:
            return
        with self._failing_clearly():
            self._manager.wait_until_finished()
        self._check_space(state)
        with self._failing_clearly():
            args = ocp.args.Composite(state=ocp.args.StandardSave(state), data=CheckpointSave(data))
            self._manager.save(step, args=args)

    def check(self) -> None:
        """Looks at what goes on in the background.

        Raises:
            TrainingError: as `save`.
        """
        with self._failing_clearly():
            self._manager.check_for_errors()

    def restore(self, state: TrainState, data: grain.DatasetIterator) -> TrainState:
        """The last checkpoint's state; sets the data to where it was.

        Args:
            state: one of the same shapes, types and placement.
            data: the iterator to set.

        Raises:
            TrainingError: if it is not what this project wrote, whole.
        """
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, state)
        args = ocp.args.Composite(
            state=ocp.args.StandardRestore(abstract), data=CheckpointRestore(data)
        )
        try:
            return self._manager.restore(self.last, args=args)["state"]
        except (OSError, LookupError, ValueError, TypeError) as error:
            raise TrainingError(
                f"{self._folder / str(self.last)}: the checkpoint is damaged ({error}); "
                "remove its folder to go on from the one before"
            ) from None

    def close(self) -> None:
        """Waits until all is written.

        Raises:
            TrainingError: as `save`.
        """
        with self._failing_clearly():
            self._manager.close()

    def _check_space(self, state: TrainState) -> None:
        """Refuses to begin what cannot end: Orbax itself fails on a full disk with much ado."""
        needed = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
        free = shutil.disk_usage(self._folder).free
        if free < needed:
            raise TrainingError(
                f"a checkpoint of {needed / 1e6:.0f} MB does not fit in the {free / 1e6:.0f} MB "
                f"that are free; {self.last_good()}"
            )

    @contextmanager
    def _failing_clearly(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:
            number = re.search(r"os_error_code='(\d+)'", str(error))
            why = os.strerror(int(number[1])) if number else error
            raise TrainingError(
                f"a checkpoint could not be written: {why}; {self.last_good()}"
            ) from None

    def last_good(self) -> str:
        """What can still be gone on from, for messages; waits for what is being written."""
        with suppress(OSError, ValueError):
            self._manager.wait_until_finished()
        self._manager.reload()  # from the folder, where what failed is not
        if self.last is None:
            return "no checkpoint yet"
        return f"last good checkpoint: step {self.last}"

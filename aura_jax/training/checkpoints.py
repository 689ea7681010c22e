"""A run's checkpoints through Orbax: whole or not there at all, the last few of them."""

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
        try:
            self._manager.wait_until_finished()
            args = ocp.args.Composite(state=ocp.args.StandardSave(state), data=CheckpointSave(data))
            self._manager.save(step, args=args)
        except (OSError, ValueError) as error:
            raise self._failed(error) from None

    def restore(self, state: TrainState, data: grain.DatasetIterator) -> TrainState:
        """The last checkpoint's state; sets the data to where it was.

        Args:
            state: one of the same shapes, types and placement.
            data: the iterator to set.
        """
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, state)
        args = ocp.args.Composite(
            state=ocp.args.StandardRestore(abstract), data=CheckpointRestore(data)
        )
        return self._manager.restore(self.last, args=args)["state"]

    def close(self) -> None:
        """Waits until all is written.

        Raises:
            TrainingError: as `save`.
        """
        try:
            self._manager.wait_until_finished()
        except (OSError, ValueError) as error:
            raise self._failed(error) from None
        finally:
            self._manager.close()

    def _failed(self, error: Exception) -> TrainingError:
        return TrainingError(f"a checkpoint could not be written ({error}); {self.last_good()}")

    def last_good(self) -> str:
        """What can still be gone on from, for messages."""
        return (
            "no checkpoint yet" if self.last is None else f"last good checkpoint: step {self.last}"
        )

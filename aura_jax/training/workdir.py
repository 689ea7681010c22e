"""The folder of a run: its spec, metrics, plots, checkpoints and model."""

import dataclasses
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import msgspec

from aura_jax.errors import TrainingError, differences
from aura_jax.files import check_folder, check_own, locked, remove_leftovers, replacing
from aura_jax.training.config import RunSpec
from aura_jax.training.json_lines import read_lines

LOCK = ".lock"
PLOTS = ("samples", "losses")
OLD = {"decoding": {"raw_colors": True}}  # the settings that older runs did not record
DIGESTS = {"images_sha256": "images: other names than before, or in other places"}

type Record = dict[str, float | int]  # the metrics of a step, with its number


class Workdir:
    """The folder where a run keeps its spec, metrics, plots, checkpoints and model.

    Args:
        path: the folder.
    """

    def __init__(self, path: Path):
        self.path = path
        self._lock = ExitStack()

    @property
    def spec(self) -> Path:
        """The spec that the run was started with, as JSON."""
        return self.path / "run.json"

    @property
    def checkpoints(self) -> Path:
        """The folder of Orbax checkpoints."""
        return self.path / "checkpoints"

    @property
    def model(self) -> Path:
        """The model with averaged parameters at the last checkpoint, for `aura_jax.load`."""
        return self.path / "model.safetensors"

    @property
    def metrics(self) -> Path:
        """The recorded metrics as JSON lines, one for each recorded step."""
        return self.path / "metrics.jsonl"

    @property
    def skipped(self) -> Path:
        """The skipped images as JSON lines, each with a name and the reason."""
        return self.path / "skipped.jsonl"

    @property
    def events(self) -> Path:
        """The folder of TensorBoard files, which the command may write."""
        return self.path / "tensorboard"

    def plot(self, name: str) -> Path:
        """Return the path of the plot with this name."""
        return self.path / f"{name}.png"

    def open(self, spec: RunSpec, *, process: int = 0) -> None:
        """Make the folder for a run, or check that its run has the same spec, and lock it.

        A run without a checkpoint may be replaced by any other, since nothing is lost. A finished
        run may be continued to a larger number of steps.

        Args:
            spec: the settings of the run.
            process: the index of this process among those that train together.

        Raises:
            TrainingError: if the folder holds a run of another spec, in which case the message
                lists each difference; or if another process trains in it.
            AuraError: if the folder cannot be made or holds other files.
        """
        check_folder(self.path)
        check_folder(self.checkpoints)
        self.path.mkdir(parents=True, exist_ok=True)
        check_own(self.path, self.spec, "training run")
        self._acquire(process)
        try:
            if self._last_step():
                self._check_same(spec)
            else:
                self.skipped.unlink(missing_ok=True)
            if process == 0:
                self._sweep()
                with replacing(self.spec) as temporary:
                    temporary.write_text(json.dumps(dataclasses.asdict(spec), indent=2) + "\n")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let other processes train in the folder."""
        self._lock.close()

    def read_spec(self) -> RunSpec:
        """Read the spec that the run was started with.

        Raises:
            TrainingError: if the file is missing or not a spec of this version.
        """
        try:
            # Not by msgspec, which refuses the names of files that are not UTF-8.
            stored = msgspec.convert(json.loads(self.spec.read_text()), dict)
            return msgspec.convert(OLD | stored, RunSpec)
        except (OSError, ValueError, RecursionError) as error:
            raise TrainingError(
                f"{self.spec}: not the spec of a run of this version ({error}); give another folder"
            ) from None

    def rewind(self, step: int) -> None:
        """Remove the metrics of steps after `step`, which will be repeated."""
        kept = [line for line in self.read_metrics() if line["step"] <= step]
        with replacing(self.metrics) as temporary:
            temporary.write_text("".join(json.dumps(line) + "\n" for line in kept))

    def record(self, metrics: Record) -> None:
        """Append a line of metrics."""
        with self.metrics.open("a") as file:
            file.write(json.dumps(metrics) + "\n")

    def read_metrics(self) -> list[Record]:
        """Read the recorded metrics, without an incomplete last line of a killed run."""
        return read_lines(self.metrics, _record)

    def discard(self) -> None:
        """Remove a run that has neither a checkpoint nor metrics, but not other files beside it."""
        if self._last_step() or self.read_metrics():
            return
        for folder in (self.checkpoints, self.events):
            shutil.rmtree(folder, ignore_errors=True)
        for file in (self.spec, self.metrics, self.skipped, *self.path.glob(f"{LOCK}.*")):
            file.unlink(missing_ok=True)
        with suppress(OSError):  # it holds other files
            self.path.rmdir()

    def _acquire(self, process: int) -> None:
        self.close()  # in case this object has it already
        try:
            self._lock.enter_context(locked(self.path / f"{LOCK}.{process}"))
        except BlockingIOError:
            raise TrainingError(
                f"{self.path}: another process is training in this folder; wait until it has "
                "ended, or give another folder"
            ) from None

    def _sweep(self) -> None:
        """Remove the temporary files of killed runs; Orbax removes those of checkpoints."""
        remove_leftovers([self.spec, self.model, self.metrics, *map(self.plot, PLOTS)])

    def _last_step(self) -> int:
        """Return the step of the last checkpoint; 0 if there is none."""
        names = [path.name for path in self.checkpoints.glob("*")]
        return max((int(name) for name in names if name.isdigit()), default=0)

    def _check_same(self, spec: RunSpec) -> None:
        there, steps = self.read_spec(), spec.recipe.steps
        if self._last_step() == there.recipe.steps < steps:  # finished, and may be extended
            recipe = dataclasses.replace(there.recipe, steps=steps)
            there = dataclasses.replace(there, recipe=recipe)
        before, now = (dict(_flat(dataclasses.asdict(each))) for each in (there, spec))
        if changed := differences(before, now, DIGESTS):
            raise TrainingError(
                f"{self.path}: was started with other settings; give another folder or the same "
                "settings\n  " + "\n  ".join(changed)
            )


def _record(value: Any) -> Record:
    record = msgspec.convert(value, dict[str, float | int])
    if "step" not in record:
        raise ValueError("it has no step")
    return record


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield settings by their full names, such as recipe.noise."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value

"""The folder of a run: its spec, metrics, plots, checkpoints and model."""

import dataclasses
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from aura_jax.errors import TrainingError, differences
from aura_jax.files import check_folder, check_own, replacing
from aura_jax.training.config import RunSpec

OLD = {"decoding": {"raw_colors": True}}  # the settings that older runs did not record
DIGESTS = {"images_sha256": "images: other names than before, or in other places"}

type Record = dict[str, float | int]  # the metrics of a step, with its number


@dataclasses.dataclass(frozen=True)
class Workdir:
    """The folder where a run keeps its spec, metrics, plots, checkpoints and model."""

    path: Path

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
        """The recorded metrics: JSON lines, one for each recorded step."""
        return self.path / "metrics.jsonl"

    @property
    def skipped(self) -> Path:
        """The skipped images: JSON lines, each with a name and the reason."""
        return self.path / "skipped.jsonl"

    @property
    def events(self) -> Path:
        """The folder of TensorBoard files, which the command may write."""
        return self.path / "tensorboard"

    def plot(self, name: str) -> Path:
        """Return the path of the plot with this name."""
        return self.path / f"{name}.png"

    def open(self, spec: RunSpec) -> None:
        """Make the folder for a run, or check that its run has the same spec.

        A run without a checkpoint may be replaced by any other, since nothing is lost.

        Raises:
            TrainingError: if the folder holds a run of another spec; the message lists each
                difference.
            AuraError: if the folder cannot be made or holds other files.
        """
        check_folder(self.path)
        self.path.mkdir(parents=True, exist_ok=True)
        if self._has_checkpoint():
            self._check_same(spec)
            return
        check_own(self.path, self.spec, "training run")
        self.skipped.unlink(missing_ok=True)
        with replacing(self.spec) as temporary:
            temporary.write_text(json.dumps(dataclasses.asdict(spec), indent=2) + "\n")

    def read_spec(self) -> RunSpec:
        """Read the spec that the run was started with.

        Raises:
            TrainingError: if the file is missing or not a spec of this version.
        """
        try:
            stored = json.loads(self.spec.read_text())
            return msgspec.convert({**OLD, **stored}, RunSpec)
        except (OSError, ValueError, TypeError) as error:
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
        return read_lines(self.metrics)

    def discard(self) -> None:
        """Remove a run that has neither a checkpoint nor metrics, but not other files beside it."""
        if self._has_checkpoint() or self.read_metrics():
            return
        for folder in (self.checkpoints, self.events):
            shutil.rmtree(folder, ignore_errors=True)
        for file in (self.spec, self.metrics, self.skipped):
            file.unlink(missing_ok=True)
        with suppress(OSError):  # it holds other files
            self.path.rmdir()

    def _has_checkpoint(self) -> bool:
        return any(path.name.isdigit() for path in self.checkpoints.glob("*"))

    def _check_same(self, spec: RunSpec) -> None:
        before, now = (dict(_flat(dataclasses.asdict(each))) for each in (self.read_spec(), spec))
        if changed := differences(before, now, DIGESTS):
            raise TrainingError(
                f"{self.path}: was started with other settings; give another folder or the same "
                "settings\n  " + "\n  ".join(changed)
            )


def read_lines(path: Path) -> list[Any]:
    """Read a file of JSON lines, if it exists, without the last line if it is incomplete."""
    if not path.exists():
        return []
    lines = path.read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield settings by their full names, such as recipe.noise."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value

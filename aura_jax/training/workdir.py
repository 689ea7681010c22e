"""The folder of a run: what it was started with, and what it has measured."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from aura_jax.errors import TrainingError, differences
from aura_jax.files import check_folder, replacing


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """Where a run keeps its settings, metrics, pictures, checkpoints and model."""

    path: Path

    @property
    def checkpoints(self) -> Path:
        """Folder of Orbax checkpoints."""
        return self.path / "checkpoints"

    @property
    def model(self) -> Path:
        """The averaged weights as of the last checkpoint, as `aura_jax.load` takes them."""
        return self.path / "model.safetensors"

    @property
    def metrics(self) -> Path:
        """JSON lines, one a recorded step."""
        return self.path / "metrics.jsonl"

    @property
    def skipped(self) -> Path:
        """JSON lines, one for each picture that was left out: its name and why."""
        return self.path / "skipped.jsonl"

    def picture(self, name: str) -> Path:
        """Where a picture of this name goes."""
        return self.path / f"{name}.png"

    def open(self, settings: dict[str, Any]) -> None:
        """Makes the folder for a run of these settings, or checks that it is of such a run.

        A run that left no checkpoint has nothing to lose, and gives way to any other.

        Args:
            settings: as JSON has them.

        Raises:
            TrainingError: if the folder is of a run with other settings; both are shown.
            AuraError: if there can be no such folder.
        """
        check_folder(self.path)
        self.path.mkdir(parents=True, exist_ok=True)
        written = self.path / "run.json"
        if any(path.name.isdigit() for path in self.checkpoints.glob("*")):
            _check_same(self.path, json.loads(written.read_text()), settings)
            return
        visible = [path for path in self.path.iterdir() if not path.name.startswith(".")]
        if not written.exists() and visible:
            raise TrainingError(f"{self.path}: holds files, but no run; give an empty folder")
        self.skipped.unlink(missing_ok=True)
        with replacing(written) as temporary:
            temporary.write_text(json.dumps(settings, indent=2) + "\n")

    def rewind(self, step: int) -> None:
        """Forgets metrics of steps after `step`, which are done again."""
        kept = [line for line in self.read_metrics() if line["step"] <= step]
        with replacing(self.metrics) as temporary:
            temporary.write_text("".join(json.dumps(line) + "\n" for line in kept))

    def record(self, metrics: dict[str, float | int]) -> None:
        """Appends a line of metrics."""
        with self.metrics.open("a") as file:
            file.write(json.dumps(metrics) + "\n")

    def read_metrics(self) -> list[dict[str, float | int]]:
        """The lines of metrics, if any; one that a killed run wrote half is left out."""
        if not self.metrics.exists():
            return []
        lines = self.metrics.read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]


def _check_same(path: Path, written: dict[str, Any], given: dict[str, Any]) -> None:
    if changed := differences(written, given):
        raise TrainingError(
            f"{path}: holds a run with other settings; give another folder, or the same settings\n"
            "  " + "\n  ".join(changed)
        )

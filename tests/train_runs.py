"""Runs of `aura-jax train` on a few images, and what they leave."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from aura_jax.cli.app import app
from aura_jax.training.workdir import Workdir
from tests.photo_folder import write_photos
from tests.recipes import ONE_LEVEL, OPTIONS

EVERY = ("--record-every", "1", "--save-every", "8", "--plot-every", "12")


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write 20 images, and a file that only has the name of one."""
    folder = write_photos(tmp_path_factory.mktemp("data") / "photos", 20)
    (folder / "broken.png").write_bytes(b"no image")
    return folder


@pytest.fixture(scope="session")
def paths(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return the options that name the images and the sizes of the model."""
    config = tmp_path_factory.mktemp("config") / "one_level.json"
    config.write_text(ONE_LEVEL.to_json())
    return ["--data", str(photos), "--config", str(config)]


@pytest.fixture(scope="session")
def finished(paths: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Workdir, str]:
    """Make a whole run, and return it with what it printed."""
    workdir = Workdir(tmp_path_factory.mktemp("runs") / "deep" / "run")
    result = train(paths, workdir.path, "--tensorboard")
    assert result.exit_code == 0, result.output
    return workdir, result.output


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Return the folder of a new run."""
    return tmp_path / "run"


def command(paths: list[str], out: Path, *more: str) -> list[str]:
    """Return the arguments of `aura-jax` that train."""
    return ["train", *paths, "--out", str(out), *OPTIONS, *EVERY, *more]


def train(paths: list[str], out: Path, *more: str) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(app, command(paths, out, *more))


def metrics(workdir: Workdir) -> list[dict[str, Any]]:
    """Return the recorded lines, without the time they took."""
    lines = workdir.read_metrics()
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


def checkpoints_of(workdir: Workdir) -> list[int]:
    """Return the steps of the whole ones."""
    return sorted(int(p.name) for p in workdir.checkpoints.glob("*") if p.name.isdigit())

"""aura-jax train as its users run it: whole runs, killed and interrupted ones, refusals."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

import aura_jax
from aura_jax.cli.app import app
from aura_jax.errors import AuraError
from aura_jax.training import new_model
from aura_jax.training.workdir import Workdir
from tests.conftest import GOLDEN_WEIGHTS, ROOT, TINY_CONFIG
from tests.photo_folder import write_photos
from tests.recipes import CROPS, ONE_LEVEL, OPTIONS, PLAIN

EVERY = ("--record-every", "1", "--save-every", "20", "--plot-every", "30")
# A shell may have started the tests with SIGINT ignored, which children would inherit.
COMMAND = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
COMMAND += "from aura_jax.cli.app import main; main()"


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 images, and a file that only has the name of one."""
    folder = write_photos(tmp_path_factory.mktemp("data") / "photos", 20)
    (folder / "broken.png").write_bytes(b"no image")
    return folder


@pytest.fixture(scope="module")
def paths(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    config = tmp_path_factory.mktemp("config") / "tiny.json"
    config.write_text(TINY_CONFIG.to_json())
    return ["--data", str(photos), "--config", str(config)]


@pytest.fixture(scope="module")
def finished(paths: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Workdir, str]:
    """A whole run and what it printed."""
    workdir = Workdir(tmp_path_factory.mktemp("runs") / "deep" / "run")
    result = train(paths, workdir.path, "--tensorboard")
    assert result.exit_code == 0, result.output
    return workdir, result.output


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "run"


def command(paths: list[str], out: Path, *more: str) -> list[str]:
    return ["train", *paths, "--out", str(out), *OPTIONS, *EVERY, *more]


def train(paths: list[str], out: Path, *more: str) -> Result:
    return CliRunner().invoke(app, command(paths, out, *more))


@contextmanager
def in_process(paths: list[str], out: Path, *more: str) -> Iterator[subprocess.Popen[str]]:
    """The command in a group of processes of its own, as a terminal gives it."""
    words = [sys.executable, "-c", COMMAND, *command(paths, out, *more)]
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        words, cwd=ROOT, stdout=pipe, stderr=pipe, text=True, start_new_session=True
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def metrics(workdir: Workdir) -> list[dict[str, Any]]:
    """The recorded lines, without the time they took."""
    lines = workdir.read_metrics()
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


def message(result: Result) -> str:
    assert result.exit_code == 1
    assert isinstance(result.exception, AuraError), result.exception
    return str(result.exception)


def checkpoints_of(workdir: Workdir) -> list[int]:
    """The steps of the whole ones."""
    return sorted(int(p.name) for p in workdir.checkpoints.glob("*") if p.name.isdigit())


def wait_for(event: Callable[[], object], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 240
    while not event():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_a_run_leaves_its_results(finished: tuple[Workdir, str], photos: Path) -> None:
    workdir, output = finished
    lines = metrics(workdir)
    assert [line["step"] for line in lines] == list(range(1, 61))
    assert {"loss", "l1", "l2", "z2", "psnr", "gradient_norm", "size"} <= lines[0].keys()
    assert lines[-1]["psnr"] > lines[0]["psnr"]
    for plot in ("samples", "losses"):
        assert np.asarray(Image.open(workdir.plot(plot))).std() > 10
    assert checkpoints_of(workdir) == [40, 60]
    assert list((workdir.path / "tensorboard").iterdir())
    assert aura_jax.load(workdir.model).config == TINY_CONFIG
    assert f"{photos}: 21 images" in output
    assert f"skipped 1 of 21 images, listed in {workdir.skipped}" in output
    assert f"{photos / 'broken.png'}: not an image" in output


def test_run_json_is_the_spec(finished: tuple[Workdir, str], paths: list[str]) -> None:
    workdir, _ = finished
    spec = workdir.read_spec()
    assert spec.recipe == PLAIN
    assert (spec.data, spec.config, spec.images, spec.processes) == (paths[1], TINY_CONFIG, 21, 1)
    settings = json.loads(workdir.spec.read_text())  # as a person reads it
    assert settings["recipe"]["crops"] == [list(crops) for crops in CROPS]
    assert settings["recipe"]["dtype"] == "float32"


def test_command_of_a_finished_run_writes_the_missing_model(
    finished: tuple[Workdir, str], paths: list[str]
) -> None:
    workdir, _ = finished
    expected, lines = workdir.model.read_bytes(), metrics(workdir)
    workdir.model.unlink()
    assert "training from step 60 to 60" in train(paths, workdir.path).output
    assert workdir.model.read_bytes() == expected
    assert metrics(workdir) == lines


def test_other_settings_are_refused_by_name(
    finished: tuple[Workdir, str], paths: list[str], photos: Path
) -> None:
    workdir, _ = finished
    extra = write_photos(photos / "more", 1)
    text = message(train(paths, workdir.path, "--noise", "0.2", "--workers", "2"))
    for path in (extra / "000.png", extra):
        path.unlink() if path.is_file() else path.rmdir()
    first, *changed = text.splitlines()
    assert "was started with other settings" in first
    assert [line.strip() for line in changed] == [
        "recipe.noise: 0.1 before, 0.2 now",
        "workers: 0 before, 2 now",
        "images: 21 before, 22 now",
        "images: other names than before, or in other places",
    ]


def test_killed_run_continues_as_if_it_had_not_been(
    finished: tuple[Workdir, str], paths: list[str], out: Path
) -> None:
    """Killed while it writes its second checkpoint, so that it must resume from the first."""
    workdir, (whole, _) = Workdir(out), finished
    with in_process(paths, out) as process:
        wait_for(lambda: checkpoints_of(workdir), process)
        wait_for(lambda: [*workdir.checkpoints.glob("*tmp*")], process)
    resumed = train(paths, out)
    assert resumed.exit_code == 0
    assert re.search(r"training from step [24]0 to 60", resumed.output)
    assert metrics(workdir) == metrics(whole)
    assert workdir.model.read_bytes() == whole.model.read_bytes()


def test_interrupted_run_saves_and_exits_with_130(paths: list[str], out: Path) -> None:
    workdir = Workdir(out)
    long = ("--steps", "100000", "--save-every", "100000", "--plot-every", "100000")
    with in_process(paths, out, *long, "--workers", "1") as process:
        wait_for(lambda: len(metrics(workdir)) >= 3, process)
        assert all(map(ignores_interrupts, decoding_processes(process.pid)))
        os.killpg(process.pid, signal.SIGINT)
        output, error = process.communicate(timeout=120)
    assert process.returncode == 130, error
    assert error == "interrupted; saved, and the same command resumes the run\n"
    assert "saved" not in output
    assert checkpoints_of(workdir) == [metrics(workdir)[-1]["step"]]
    assert aura_jax.load(workdir.model)


def decoding_processes(pid: int) -> list[str]:
    """The status of the processes that Grain has started, from whichever thread."""
    lists = [task.read_text() for task in Path(f"/proc/{pid}/task").glob("*/children")]
    children = [Path("/proc") / child for child in " ".join(lists).split()]
    found = [each for each in children if b"spawn_main" in (each / "cmdline").read_bytes()]
    assert found
    return [(each / "status").read_text() for each in found]


def ignores_interrupts(status: str) -> bool:
    """Whether SIGINT is blocked, so that Ctrl-C at any moment leaves the process to the run."""
    (mask,) = re.findall(r"^SigBlk:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return bool(int(mask, 16) >> (signal.SIGINT - 1) & 1)


def test_fine_tuning_the_decoder_alone(photos: Path, out: Path, tmp_path: Path) -> None:
    file = tmp_path / "start.safetensors"
    aura_jax.save(new_model(ONE_LEVEL, np.dtype("float32"), 0), file)
    paths = ["--data", str(photos), "--init", str(file), "--train", "decoder"]
    result = train(paths, out, "--steps", "2", "--plot-every", "100", "--crops", "8x2")
    assert result.exit_code == 0, result.output
    before, after = aura_jax.load(file), aura_jax.load(out / "model.safetensors")
    assert after.config == before.config
    same = [
        np.array_equal(old[...], new[...])
        for old, new in (
            (before.encoder.conv_in.kernel, after.encoder.conv_in.kernel),
            (before.decoder.conv_in.kernel, after.decoder.conv_in.kernel),
        )
    ]
    assert same == [True, False]


def test_losses_without_perceptual_weights_are_said(paths: list[str], out: Path) -> None:
    words = [*paths, "--out", str(out), "--crops", "16x99"]
    result = CliRunner().invoke(app, ["train", *words])
    assert "21 images in all, fewer than a batch of 99" in message(result)
    assert "no --perceptual weights: the losses lpips and gan are off" in result.output


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (["--loss", "l3=1"], "loss 'l3': expected one of l1, l2"),
        (["--loss", "l1=much"], "loss 'l1=much': expected NAME=WEIGHT"),
        (["--loss", "lpips=1"], "the losses lpips need weights: give --perceptual"),
        (["--perceptual", "none.safetensors"], "none.safetensors"),
        (["--crops", "16"], "crops '16': expected SIZExBATCH"),
        (["--crops", "17x4"], "crops of 17: expected multiples of 2"),
        (["--data", "nowhere"], "nowhere: no such file or folder"),
        (["--config", "huge"], "config 'huge': expected published, small or a JSON file"),
        (["--config", str(GOLDEN_WEIGHTS)], "not a JSON file: its text is not UTF-8"),
        (["--init", str(GOLDEN_WEIGHTS)], "give either config, for a new model, or init"),
        (["--steps", "0"], "steps"),
        (["--seed", "-1"], "seed=-1: expected a finite number, 0 or more"),
        (["--coordinator", "auto"], "coordinator auto: no cluster was found"),
        (["--coordinator", "here"], "expected HOST:PORT,COUNT,INDEX or auto"),
    ],
)
def test_refusals(paths: list[str], out: Path, more: list[str], expected: str) -> None:
    assert expected in message(train(paths, out, *more))
    assert not out.exists()


def test_an_unknown_dtype_is_a_mistake_of_usage(paths: list[str], out: Path) -> None:
    result = train(paths, out, "--compute-dtype", "float8")
    assert result.exit_code == 2
    assert "'float8': expected bfloat16" in result.output


def test_outputs_that_cannot_be_written_are_refused_first(
    paths: list[str], photos: Path, tmp_path: Path
) -> None:
    """Before anything is read, so the missing data is not even noticed."""
    file = tmp_path / "file"
    file.write_text("mine")
    nowhere = ["--data", "nowhere", *paths[2:]]
    assert f"{file}: is a file; give a folder" in message(train(nowhere, file / "run"))
    assert "lies in" in message(train(paths, photos / "run"))


def test_help_imports_nothing_heavy() -> None:
    code = "import sys; from aura_jax.cli import train; "
    code += "print(*{'jax', 'flax', 'grain', 'optax', 'orbax'} & {*sys.modules})"
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout == "\n"


def test_a_refused_run_leaves_no_folder(paths: list[str], out: Path) -> None:
    text = message(train(paths, out, "--crops", "64x1", "--tensorboard"))
    assert "over the limit of 2 (a tenth of 21 images)" in text
    assert not out.exists()

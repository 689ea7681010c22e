"""aura-jax train as its users run it: whole runs, broken ones, and what is refused."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

import aura_jax
from aura_jax.cli.app import app
from aura_jax.errors import AuraError
from aura_jax.training.workdir import RunFolder
from tests.conftest import GOLDEN_WEIGHTS
from tests.photo_folder import write_photos

CONFIG = '{"ch": 32, "ch_mult": [1, 2], "num_res_blocks": 1}'
EVERY = ("--record-every", "1", "--save-every", "4", "--picture-every", "8")


LIMITED_LATER = """
import resource, threading, time
from pathlib import Path

def limit() -> None:
    while not list(Path(sys.argv[sys.argv.index("--out") + 1]).glob("checkpoints/4/*")):
        time.sleep(0.001)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

threading.Thread(target=limit, daemon=True).start()
"""


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("data") / "photos", 12)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "tiny.json"
    path.write_text(CONFIG)
    return path


@pytest.fixture(scope="module", autouse=True)
def compiled_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Processes that tests start share what they compile, which is most of their time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path_factory.mktemp("compiled")))
        patch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")
        yield


@pytest.fixture
def options(photos: Path, config: Path, tmp_path: Path) -> list[str]:
    """A run of 8 steps that takes seconds."""
    paths = (
        "--data",
        str(photos),
        "--config",
        str(config),
        "--out",
        str(tmp_path / "runs" / "tiny"),
    )
    return [*paths, "--steps", "8", "--crops", "16x4", "--dtype", "f32", *EVERY]


def train(options: list[str], *more: str) -> Result:
    return CliRunner().invoke(app, ["train", *options, *more])


def in_process(options: list[str], *more: str, prelude: str = "") -> subprocess.Popen[str]:
    """The command in a group of processes of its own, as a terminal gives it."""
    code = f"import sys\n{prelude}\nfrom aura_jax.cli.app import main\nmain()"
    command = [sys.executable, "-c", code, "train", *options, *more]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, start_new_session=True)


def metrics(options: list[str]) -> list[dict[str, Any]]:
    """The recorded lines, without the time they took."""
    lines = RunFolder(run_folder(options)).read_metrics()
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


def run_folder(options: list[str]) -> Path:
    return Path(options[options.index("--out") + 1])


def message(result: Result) -> str:
    assert result.exit_code == 1
    assert isinstance(result.exception, AuraError), result.exception
    return str(result.exception)


def checkpoints_of(options: list[str]) -> list[int]:
    """The steps of the whole ones."""
    folder = run_folder(options) / "checkpoints"
    return sorted(int(path.name) for path in folder.glob("*") if path.name.isdigit())


def wait_for(event: Callable[[], object], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 240
    while not event():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.001)


def wait_for_step(options: list[str], step: int, process: subprocess.Popen[str]) -> None:
    file = run_folder(options) / "metrics.jsonl"
    wait_for(lambda: file.exists() and file.read_text().count("\n") >= step, process)


def test_a_run_from_scratch_leaves_all_it_should(options: list[str]) -> None:
    result = train(options, "--tensorboard")
    assert result.exit_code == 0, result.output
    assert "12 pictures" in result.output
    assert "the losses lpips and gan are off" in result.output
    folder = run_folder(options)
    assert [line["step"] for line in metrics(options)] == list(range(1, 9))
    assert {"loss", "l1", "l2", "z2", "psnr", "gradient_norm", "size"} <= metrics(options)[0].keys()
    assert np.asarray(Image.open(folder / "samples.png")).std() > 10
    assert np.asarray(Image.open(folder / "losses.png")).std() > 10
    assert checkpoints_of(options) == [4, 8]
    assert list((folder / "tensorboard").iterdir())
    vae = aura_jax.load(folder / "model.safetensors")
    assert vae.config == aura_jax.AuraConfig.from_json(CONFIG)
    again = train(options)
    assert again.exit_code == 0
    assert len(metrics(options)) == 8
    other = train(options, "--seed", "1")
    assert "holds a run with other settings" in message(other)
    assert '"seed": 0' in message(other)
    assert '"seed": 1' in message(other)


@pytest.mark.parametrize("when", ["between checkpoints", "within one"])
def test_killed_run_goes_on_as_if_nothing_had_happened(
    options: list[str], tmp_path: Path, when: str
) -> None:
    whole = [*options, "--steps", "100", "--save-every", "20", "--picture-every", "100"]
    assert train(whole).exit_code == 0
    expected = metrics(whole)
    broken = [*whole, "--out", str(tmp_path / "killed")]
    broken[broken.index("--out") + 1] = str(tmp_path / "killed")
    process = in_process(broken)
    wait_for(lambda: checkpoints_of(broken), process)
    if when == "within one":
        wait_for(lambda: [*(run_folder(broken) / "checkpoints").glob("*tmp*")], process)
    process.kill()
    process.communicate()
    resumed = train(broken)
    assert resumed.exit_code == 0
    assert re.search(r"training from step [1-9]\d* to 100", resumed.output)
    assert metrics(broken) == expected
    models = [(run_folder(run) / "model.safetensors").read_bytes() for run in (whole, broken)]
    assert models[0] == models[1]


def test_interrupted_run_saves_and_exits(options: list[str]) -> None:
    long = [*options, "--steps", "100000", "--save-every", "100000", "--picture-every", "100000"]
    process = in_process(long, "--workers", "1")
    wait_for_step(long, 3, process)
    os.killpg(process.pid, signal.SIGINT)
    out, error = process.communicate(timeout=120)
    assert process.returncode == 0, error
    assert "interrupted" in out
    assert "Traceback" not in error, error
    (saved,) = checkpoints_of(long)
    assert saved == metrics(long)[-1]["step"]
    assert aura_jax.load(run_folder(long) / "model.safetensors")
    assert "give another folder, or the same settings" in message(train(long, "--workers", "2"))


def test_command_of_a_finished_run_writes_the_model_that_was_missing(options: list[str]) -> None:
    assert train(options).exit_code == 0
    model = run_folder(options) / "model.safetensors"
    expected = model.read_bytes()
    model.unlink()
    assert "training from step 8 to 8" in train(options).output
    assert model.read_bytes() == expected


@pytest.mark.filterwarnings("ignore:overflow")  # which is what the test is for
def test_weights_that_are_not_finite_are_never_saved(options: list[str]) -> None:
    text = message(train(options, "--learning-rate", "1e42", "--steps", "1"))
    assert "step 1: weights have become infinite or NaN; no checkpoint yet" in text
    assert not (run_folder(options) / "model.safetensors").exists()


def test_loss_that_is_not_finite_stops_the_run(options: list[str], photos: Path) -> None:
    result = train(options, "--learning-rate", "1e38", "--steps", "100")
    text = message(result)
    assert "the loss is nan" in text or "the loss is inf" in text
    assert "no checkpoint yet" in text or "last good checkpoint: step" in text
    assert str(photos / "0") in text


def test_full_disk_keeps_the_last_checkpoint(
    options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plenty = shutil.disk_usage(".")
    with monkeypatch.context() as patch:
        spaces = iter([plenty, plenty._replace(free=100)])
        patch.setattr(shutil, "disk_usage", lambda path: next(spaces))
        text = message(train(options))
    assert "MB does not fit in the 0 MB that are free; last good checkpoint: step 4" in text
    assert "training from step 4 to 8" in train(options).output
    assert [line["step"] for line in metrics(options)] == list(range(1, 9))


def test_write_that_fails_midway_keeps_the_last_checkpoint(options: list[str]) -> None:
    """A limit on the size of files, once there is a checkpoint, stands in for a sudden end."""
    process = in_process(options, "--steps", "40", prelude=LIMITED_LATER)
    _, error = process.communicate(timeout=240)
    assert process.returncode != 0
    assert "File too large" in error
    assert "last good checkpoint: step" in error
    # Orbax's threads print what they raise; of our own there is the message alone.
    assert not re.search(r'File ".*aura_jax', error), error
    resumed = train(options, "--steps", "40")
    assert re.search(r"training from step [1-9]\d* to 40", resumed.output)
    assert [line["step"] for line in metrics(options)] == list(range(1, 41))


def test_fine_tuning_the_decoder_alone(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    paths = ["--data", str(photos), "--init", str(GOLDEN_WEIGHTS), "--out", str(out)]
    result = train([*paths, "--train", "decoder", "--steps", "2", "--crops", "16x2", *EVERY])
    assert result.exit_code == 0, result.output
    before, after = aura_jax.load(GOLDEN_WEIGHTS), aura_jax.load(out / "model.safetensors")
    assert after.config == before.config
    kernel = before.encoder.conv_in.kernel[...].astype(np.float32)
    assert (kernel == after.encoder.conv_in.kernel[...]).all()
    kernel = before.decoder.mid.block_1.conv1.kernel[...].astype(np.float32)
    assert not (kernel == after.decoder.mid.block_1.conv1.kernel[...]).all()


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (["--loss", "l3=1"], "loss 'l3': expected one of l1, l2"),
        (["--loss", "l1=much"], "loss 'l1=much': expected NAME=WEIGHT"),
        (["--loss", "lpips=1"], "the losses lpips need weights: give --perceptual"),
        (["--perceptual", "none.safetensors"], "none.safetensors"),
        (["--crops", "16"], "crops '16': expected SIZExBATCH"),
        (["--crops", "16x13"], "12 pictures are fewer than a batch of 13"),
        (["--crops", "17x4"], "crops of 17: expected multiples of 2"),
        (["--crops", "64x4"], "under the crop of 64"),
        (["--data", "nowhere"], "nowhere: no such folder or tar"),
        (["--config", "huge"], "config 'huge': expected published, small or a JSON file"),
        (["--init", str(GOLDEN_WEIGHTS)], "give --config for a new model, or --init"),
        (["--steps", "0"], "steps"),
        (["--seed", "-1"], "seed=-1: expected 0 or more"),
        (["--loss", "l1=nan"], "l1=nan: expected 0 or more"),
        (["--config", str(GOLDEN_WEIGHTS)], "not a JSON file, its text is not UTF-8"),
        (["--coordinator", "auto"], "coordinator auto: no cluster was found"),
        (["--coordinator", "here"], "expected HOST:PORT,COUNT,INDEX or auto"),
    ],
)
def test_refusals(options: list[str], more: list[str], expected: str) -> None:
    replaced = [*options]
    if more[0] in replaced:
        at = replaced.index(more[0])
        del replaced[at : at + 2]
    assert expected in message(train(replaced, *more))
    assert not (run_folder(options) / "model.safetensors").exists()


def test_run_that_never_began_can_be_started_otherwise(options: list[str]) -> None:
    assert "under the crop of 64" in message(train(options, "--crops", "64x4"))
    assert train(options).exit_code == 0


def test_pictures_are_drawn_before_anything_is_recorded(options: list[str]) -> None:
    every = ("--record-every", "100", "--picture-every", "4")
    assert train(options, *every).exit_code == 0
    assert (run_folder(options) / "samples.png").exists()


def test_run_within_its_own_data(options: list[str], photos: Path) -> None:
    assert "lies in the data" in message(train(options, "--out", str(photos / "run")))


def test_data_that_has_changed(options: list[str], tmp_path: Path) -> None:
    data = write_photos(tmp_path / "growing", 12)
    options[options.index("--data") + 1] = str(data)
    assert train(options, "--steps", "4").exit_code == 0
    write_photos(data, 13)
    text = message(train(options, "--steps", "4"))
    assert '"pictures": 12' in text
    assert '"pictures": 13' in text


def test_what_a_killed_start_leaves_is_no_obstacle(options: list[str]) -> None:
    run_folder(options).mkdir(parents=True)
    (run_folder(options) / ".run.json.half").write_text("{")
    assert train(options, "--steps", "1").exit_code == 0


def test_folder_that_is_no_run(options: list[str]) -> None:
    run_folder(options).mkdir(parents=True)
    (run_folder(options) / "thesis.txt").write_text("mine")
    assert "holds files, but no run" in message(train(options))


def test_pictures_left_out_are_named_at_the_end(options: list[str], tmp_path: Path) -> None:
    data = write_photos(tmp_path / "more", 20)
    (data / "broken.png").write_bytes(b"not a picture")
    options[options.index("--data") + 1] = str(data)
    result = train(options)
    assert result.exit_code == 0
    assert "left out 1 of 21 pictures" in result.output
    assert f"left out: {data / 'broken.png'}: not a picture" in result.output


def test_settings_are_json_that_a_person_can_read(options: list[str]) -> None:
    assert train(options, "--steps", "1").exit_code == 0
    settings = json.loads((run_folder(options) / "run.json").read_text())
    assert settings["recipe"]["crops"] == [[16, 4]]
    assert settings["config"]["ch"] == 32

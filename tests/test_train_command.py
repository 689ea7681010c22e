"""aura-jax train as its users run it: what it leaves, and what it refuses."""

import json
import signal
from pathlib import Path
from typing import Any, NoReturn

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

import aura_jax
from aura_jax.cli.app import app
from aura_jax.errors import AuraError, TrainingError
from aura_jax.model.parameters import blueprint, split
from aura_jax.training.workdir import Workdir
from tests.cheap_training import replace_networks
from tests.conftest import GOLDEN_WEIGHTS, TINY_CONFIG
from tests.photo_folder import write_photos
from tests.random_models import random_vae
from tests.recipes import CROPS, ONE_LEVEL, PLAIN
from tests.train_runs import checkpoints_of, finished, metrics, out, paths, photos, train

__all__ = ["finished", "out", "paths", "photos"]  # fixtures


def message(result: Result) -> str:
    assert result.exit_code == 1
    assert isinstance(result.exception, AuraError), result.exception
    return str(result.exception)


def test_a_run_leaves_its_results(finished: tuple[Workdir, str], photos: Path) -> None:
    workdir, output = finished
    lines = metrics(workdir)
    assert [line["step"] for line in lines] == list(range(1, 21))
    assert {"loss", "l1", "l2", "z2", "psnr", "gradient_norm", "size"} <= lines[0].keys()
    assert lines[-1]["psnr"] > lines[0]["psnr"]
    for plot in ("samples", "losses"):
        assert np.asarray(Image.open(workdir.plot(plot))).std() > 10
    assert checkpoints_of(workdir) == [16, 20]
    assert list((workdir.path / "tensorboard").iterdir())
    assert aura_jax.load(workdir.model).config == ONE_LEVEL
    assert f"{photos}: 21 images" in output
    assert f"skipped 1 of 21 images, listed in {workdir.skipped}" in output
    assert f"{photos / 'broken.png'}: not an image" in output


def test_run_json_is_the_spec(finished: tuple[Workdir, str], paths: list[str]) -> None:
    workdir, _ = finished
    spec = workdir.read_spec()
    assert spec.recipe == PLAIN
    assert (spec.data, spec.config, spec.images, spec.processes) == (paths[1], ONE_LEVEL, 21, 1)
    settings = json.loads(workdir.spec.read_text())  # as a person reads it
    assert settings["recipe"]["crops"] == [list(crops) for crops in CROPS]
    assert settings["recipe"]["dtype"] == "float32"


def test_command_of_a_finished_run_writes_the_missing_model(
    finished: tuple[Workdir, str], paths: list[str]
) -> None:
    workdir, _ = finished
    expected, lines = workdir.model.read_bytes(), metrics(workdir)
    workdir.model.unlink()
    assert "training from step 20 to 20" in train(paths, workdir.path).output
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


def test_fine_tuning_the_decoder_alone(
    photos: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The given weights and the choice reach the trainer, which is a fake."""
    seen: list[Any] = []

    def trainer(*words: object) -> NoReturn:
        seen.extend(words)
        raise TrainingError("far enough")

    monkeypatch.setattr("aura_jax.training.run.Trainer", trainer)
    file = tmp_path / "start.safetensors"
    aura_jax.save(random_vae(ONE_LEVEL, jnp.bfloat16), file)
    paths = ["--data", str(photos), "--init", str(file), "--train", "decoder"]
    assert message(train(paths, out, "--steps", "2", "--crops", "8x2")) == "far enough"
    recipe, vae, perceptual = seen
    assert (recipe.train, recipe.steps, perceptual) == ("decoder", 2, None)
    assert vae.config == ONE_LEVEL
    before, after = (split(each)[1] for each in (aura_jax.load(file), vae))
    for name, param in after.items():
        assert param.dtype == jnp.float32
        np.testing.assert_array_equal(param, before[name])


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


def test_crops_that_the_model_cannot_halve(
    photos: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model is a fake without values, which nothing may compute with."""
    monkeypatch.setattr("aura_jax.training.run.new_model", lambda c, d, seed: blueprint(c, d, d))
    (tmp_path / "tiny.json").write_text(TINY_CONFIG.to_json())
    paths = ["--data", str(photos), "--config", str(tmp_path / "tiny.json")]
    result = train(paths, out, "--crops", "17x4")
    assert "crops of 17: expected multiples of 2" in message(result)
    assert not out.exists()


def test_sigterm_saves_though_jax_takes_it(
    paths: list[str], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The preemption service of jax.distributed (0.12) replaces the handler of SIGTERM."""
    handlers: list[Any] = []

    def open_run(*args: object, **options: object) -> NoReturn:
        handlers.append(signal.getsignal(signal.SIGTERM))
        raise TrainingError("far enough")

    monkeypatch.setattr(
        "aura_jax.cli.training.join", lambda text: signal.signal(signal.SIGTERM, signal.SIG_IGN)
    )
    monkeypatch.setattr("aura_jax.cli.training.open_run", open_run)
    before = signal.getsignal(signal.SIGTERM)
    assert message(train(paths, out, "--coordinator", "host:1,1,0")) == "far enough"
    assert handlers[0].__qualname__ == "Interruption._answer"
    assert signal.getsignal(signal.SIGTERM) == before


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


def test_a_refused_run_leaves_no_folder(
    paths: list[str], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_networks(monkeypatch.setattr)
    words = [*paths, "--out", str(out), "--crops", "64x1", "--tensorboard"]
    text = message(CliRunner().invoke(app, ["train", *words]))
    assert "over the limit of 2 (a tenth of 21 images)" in text
    assert not out.exists()

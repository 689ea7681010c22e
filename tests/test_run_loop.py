"""The loop of a run and its folder, with a trainer that only counts."""

import math
import resource
import shutil
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import aura_jax
from aura_jax import AuraEquiVAE, find_images
from aura_jax.errors import AuraError, TrainingError
from aura_jax.training import (
    Every,
    Recipe,
    Run,
    RunSpec,
    Skipped,
    Trainer,
    TrainState,
    Workdir,
    batches,
)
from aura_jax.training.step import Metrics
from tests.conftest import TINY_CONFIG
from tests.photo_folder import write_photos
from tests.recipes import with_

STEPS = 8
SPEC = RunSpec(data="photos", recipe=with_(steps=STEPS), config=TINY_CONFIG)


class Counter(Trainer):
    """Adds 1 to a parameter in each step, and reports the losses that it is told to."""

    def __init__(self, vae: AuraEquiVAE, losses: Callable[[int], float] = lambda step: 1.0):
        self.recipe, self.vae, self.losses = SPEC.recipe, vae, losses
        self.broken_at = math.inf

    def start(self) -> TrainState:
        noise = np.random.default_rng(0).random(1_000_000, np.float32)  # which do not compress
        params = {"vae": {"count": jnp.zeros(()), "noise": jnp.asarray(noise)}}
        return TrainState(jnp.int32(0), params, params["vae"], jnp.zeros(()))

    def step(
        self, state: TrainState, images: np.ndarray, key: jax.Array
    ) -> tuple[TrainState, Metrics]:
        step = int(state.step) + 1
        gain = math.inf if step == self.broken_at else 1.0
        before = state.params["vae"]
        params = {"vae": {**before, "count": before["count"] + gain}}
        loss = jnp.float32(self.losses(step))
        metrics = {"loss": loss, "psnr": loss, "gradient_norm": jnp.ones(())}
        return TrainState(jnp.int32(step), params, params["vae"], state.opt_state), metrics

    def is_finite(self, state: TrainState) -> bool:
        return bool(jnp.isfinite(state.params["vae"]["count"]))

    def averaged(self, state: TrainState) -> AuraEquiVAE:
        return self.vae


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("data") / "photos", 8)


@pytest.fixture
def workdir(tmp_path: Path) -> Workdir:
    workdir = Workdir(tmp_path / "run")
    workdir.open(SPEC)
    return workdir


type Start = Callable[..., Run]


@pytest.fixture
def start(photos: Path, workdir: Workdir, vae_to_train: AuraEquiVAE) -> Start:
    """Opens the run again, as each start of the command does."""

    def start(losses: Callable[[int], float] = lambda step: 1.0, every: Every | None = None) -> Run:
        images, skipped = find_images([photos]), Skipped(workdir.skipped, 8)
        data = batches(images, SPEC.recipe.crops, seed=0, skipped=skipped)
        often = every or Every(record=1, save=4, plot=1000)
        return Run(Counter(vae_to_train, losses), data, skipped, workdir, every=often)

    return start


@pytest.fixture(autouse=True)
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = np.zeros((4, 4, 3), np.uint8)
    monkeypatch.setattr("aura_jax.training.loop.samples", lambda *_: plain)


def steps_of(workdir: Workdir) -> list[float | int]:
    return [line["step"] for line in workdir.read_metrics()]


def count(run: Run) -> float:
    return float(run.resume().params["vae"]["count"])


def test_a_run_calls_its_observer_and_saves(start: Start, workdir: Workdir) -> None:
    seen, run = [], start()
    assert run.train(run.resume(), observe=seen.append)
    assert [line["step"] for line in seen] == list(range(1, STEPS + 1))
    assert steps_of(workdir) == list(range(1, STEPS + 1))
    assert run.checkpoints.last == STEPS
    assert aura_jax.load(workdir.model)


def test_a_stopped_run_saves_its_step_and_continues_from_it(start: Start, workdir: Workdir) -> None:
    run, calls = start(), iter([False, True])
    assert not run.train(run.resume(), should_stop=lambda: next(calls))
    assert run.checkpoints.last == 2
    assert workdir.model.exists()
    run = start()
    assert int(run.resume().step) == count(run) == 2
    assert run.train(run.resume())
    assert steps_of(workdir) == list(range(1, STEPS + 1))
    assert count(start()) == STEPS


def test_metrics_after_the_last_checkpoint_are_dropped(start: Start, workdir: Workdir) -> None:
    """The folder is as after a kill at step 7, with a half-written last line."""
    run, calls = start(), iter([False] * 4 + [True])
    run.train(run.resume(), should_stop=lambda: next(calls))
    with workdir.metrics.open("a") as file:
        file.write('{"step": 6, "loss": 1.0, "psnr": 1.0}\n{"step": 7, "lo')
    assert start().train(start().resume())
    assert steps_of(workdir) == list(range(1, STEPS + 1))


def test_a_loss_that_is_not_finite_stops_the_run(start: Start, photos: Path) -> None:
    run = start(lambda step: math.nan if step == 7 else 1.0)
    with pytest.raises(TrainingError, match=r"step 7: the loss is nan.*last good .*: step 4") as e:
        run.train(run.resume())
    assert str(photos / "00") in str(e.value)


def test_parameters_that_are_not_finite_are_never_saved(start: Start, workdir: Workdir) -> None:
    run = start()
    assert isinstance(run.trainer, Counter)
    run.trainer.broken_at = 3
    with pytest.raises(TrainingError, match="step 4: parameters have become infinite or NaN; no c"):
        run.train(run.resume())
    assert run.checkpoints.last is None
    assert not workdir.model.exists()


def test_real_parameters_are_checked(vae_to_train: AuraEquiVAE) -> None:
    trainer = Trainer(SPEC.recipe, vae_to_train)
    params = {"vae": {"a": jnp.ones(2), "b": jnp.ones(3)}}
    state = TrainState(jnp.int32(0), params, params["vae"], None)
    assert trainer.is_finite(state)
    broken = {"vae": {"a": jnp.ones(2), "b": jnp.array([1, jnp.nan, 1])}}
    assert not trainer.is_finite(TrainState(state.step, broken, state.ema_params, None))
    assert not trainer.is_finite(TrainState(state.step, params, broken["vae"], None))


def test_full_disk_keeps_the_last_checkpoint(
    start: Start, workdir: Workdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    plenty = shutil.disk_usage(".")
    spaces = iter([plenty, plenty._replace(free=100)])
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: next(spaces))
        run = start()
        with pytest.raises(TrainingError, match=r"8.0 MB does not fit in the 100 bytes.*: step 4"):
            run.train(run.resume())
    run = start()
    assert int(run.resume().step) == 4
    assert run.train(run.resume())
    assert steps_of(workdir) == list(range(1, STEPS + 1))


@contextmanager
def limited(size: int):
    """Let no file grow beyond a size, which stands in for a disk that fills up during a write."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_write_that_fails_midway_keeps_the_last_checkpoint(start: Start) -> None:
    """The real error of TensorStore, whose number is found in its text alone."""
    run, calls = start(), iter([False] * 3 + [True])
    run.train(run.resume(), should_stop=lambda: next(calls))
    run = start()
    reason = "could not be written: File too large; last good checkpoint: step 4"
    with limited(3_000_000), pytest.raises(TrainingError, match=reason):
        run.train(run.resume())
    run = start()
    assert int(run.resume().step) == 4
    assert run.train(run.resume())


def test_a_damaged_checkpoint_is_named(start: Start, workdir: Workdir) -> None:
    run = start()
    run.train(run.resume())
    shutil.rmtree(workdir.checkpoints / "8" / "state")
    with pytest.raises(TrainingError, match=r"checkpoints/8: the checkpoint is damaged"):
        start().resume()


def test_plots_are_drawn_before_anything_is_recorded(start: Start, workdir: Workdir) -> None:
    run = start(every=Every(record=100, save=100, plot=4))
    run.train(run.resume())
    assert workdir.plot("samples").exists()
    assert not workdir.plot("losses").exists()


def test_a_run_without_checkpoints_may_be_replaced(workdir: Workdir) -> None:
    other = RunSpec(data="photos", recipe=with_(seed=1, steps=STEPS), config=TINY_CONFIG)
    (workdir.path / ".run.json.half").write_text("{")  # as a killed start leaves it
    workdir.open(other)
    assert workdir.read_spec() == other
    (workdir.checkpoints / "4").mkdir(parents=True)
    with pytest.raises(
        TrainingError, match=r"other settings; give another folder.*\n  recipe.seed:"
    ):
        workdir.open(SPEC)
    workdir.open(other)


@pytest.mark.parametrize("text", ["{", "{}", '{"data": 1}', "[]"])
def test_a_folder_of_another_version_is_refused(workdir: Workdir, text: str) -> None:
    (workdir.checkpoints / "4").mkdir(parents=True)
    workdir.spec.write_text(text)
    with pytest.raises(TrainingError, match=r"run\.json: not the spec of a run of this version"):
        workdir.open(SPEC)


def test_a_folder_of_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(AuraError, match="holds files, but no training run"):
        Workdir(tmp_path).open(SPEC)


def test_a_spec_says_what_to_start_from() -> None:
    for config, init in ((None, None), (TINY_CONFIG, "small")):
        with pytest.raises(TrainingError, match="give either config"):
            RunSpec(data="photos", recipe=Recipe(steps=1), config=config, init=init)

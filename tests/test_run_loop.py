"""The loop of a run, with a trainer that only counts."""

import math
import resource
import shutil
from contextlib import contextmanager
from pathlib import Path

import jax.numpy as jnp
import pytest

import aura_jax
from aura_jax.errors import TrainingError
from aura_jax.training import Every, Trainer, TrainState, Workdir
from tests.conftest import TINY_CONFIG
from tests.fake_runs import (
    SPEC,
    STEPS,
    Counter,
    Start,
    count,
    no_plots,
    photos,
    start,
    steps_of,
    workdir,
)
from tests.random_models import random_vae

__all__ = ["no_plots", "photos", "start", "workdir"]  # fixtures


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


def test_real_parameters_are_checked() -> None:
    trainer = Trainer(SPEC.recipe, random_vae(TINY_CONFIG))
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


def test_plots_are_drawn_before_anything_is_recorded(start: Start, workdir: Workdir) -> None:
    run = start(every=Every(record=100, save=100, plot=4))
    run.train(run.resume())
    assert workdir.plot("samples").exists()
    assert not workdir.plot("losses").exists()

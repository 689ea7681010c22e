"""Runs with a trainer that only counts, for tests of their loop and folder."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aura_jax import AuraEquiVAE, find_images
from aura_jax.training import Every, Run, RunSpec, Skipped, Trainer, TrainState, Workdir, batches
from aura_jax.training.checkpointing import Say
from aura_jax.training.step import Metrics
from tests.conftest import TINY_CONFIG
from tests.photo_folder import write_photos
from tests.recipes import with_

STEPS = 8
SPEC = RunSpec(data="photos", recipe=with_(steps=STEPS), config=TINY_CONFIG)


class Counter(Trainer):
    """Adds 1 to a parameter in each step, and reports the losses that it is told to."""

    def __init__(
        self,
        vae: AuraEquiVAE,
        losses: Callable[[int], float] = lambda step: 1.0,
        steps: int = STEPS,
    ):
        self.recipe, self.vae, self.losses = with_(steps=steps), vae, losses
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
    # Grain 0.2.18 shuffles 8 images in 4 ms for each that it draws, and 64 in 0.6 ms.
    return write_photos(tmp_path_factory.mktemp("data") / "photos", 64)


def new_workdir(path: Path) -> Workdir:
    workdir = Workdir(path)
    workdir.open(SPEC)
    workdir.close()
    return workdir


@pytest.fixture
def workdir(tmp_path: Path) -> Workdir:
    return new_workdir(tmp_path / "run")


type Start = Callable[..., Run]


def starter(photos: Path, workdir: Workdir, vae: AuraEquiVAE) -> Start:
    """Return a function that opens the run again, as each start of the command does."""

    def start(
        losses: Callable[[int], float] = lambda step: 1.0,
        *,
        every: Every = Every(record=1, save=4, plot=1000),
        steps: int = STEPS,
        say: Say = lambda line: None,
    ) -> Run:
        images, skipped = find_images([photos]), Skipped(workdir.skipped, 8)
        data = batches(images, SPEC.recipe.crops, seed=0, skipped=skipped)
        trainer = Counter(vae, losses, steps)
        return Run(trainer, data, skipped, workdir, every=every, say=say)

    return start


@pytest.fixture
def start(photos: Path, workdir: Workdir, tiny_vae: AuraEquiVAE) -> Start:
    return starter(photos, workdir, tiny_vae)


@pytest.fixture(autouse=True, scope="module")
def no_plots() -> Iterator[None]:
    plain = np.zeros((4, 4, 3), np.uint8)
    with pytest.MonkeyPatch.context() as patch:
        for plot in ("samples", "loss_curve"):
            patch.setattr(f"aura_jax.training.loop.{plot}", lambda *_: plain)
        yield


def steps_of(workdir: Workdir) -> list[float | int]:
    return [line["step"] for line in workdir.read_metrics()]


def count(run: Run) -> float:
    return float(run.resume().params["vae"]["count"])

"""python -m tests.train_together OUT [COORDINATOR]: train on all devices of all processes.

OUT holds the model to start from and, for several processes, images.
"""

import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

import aura_jax
from aura_jax.dtypes import FLOAT32
from aura_jax.training import Every, RunSpec, Trainer, join, open_run
from tests.photo_folder import random_crops
from tests.recipes import PLAIN, with_

START = "start.safetensors"  # Flax's initializers would compile in every process
STEPS = 3  # the rate of the first is 0, so only the third shows an update of the parameters
STOP, RUN = 2, with_(steps=4)  # every step waits for the other process, which costs much time
((_, BATCH),) = PLAIN.crops


def main(out: str, coordinator: str | None = None) -> None:
    """Write the results of a few steps and, for several processes, of an interrupted run."""
    if coordinator is not None:
        join(coordinator)
    trainer = Trainer(PLAIN, aura_jax.load(Path(out) / START, dtype=FLOAT32))
    results = first_steps(trainer)
    if coordinator is not None:
        results |= interrupted_run(Path(out), trainer)
    if jax.process_index() == 0:
        np.savez(Path(out) / "results.npz", **results)


def first_steps(trainer: Trainer) -> dict[str, Any]:
    """Return the losses of a few steps and the gradient of the first."""
    state, share = trainer.start(), BATCH // jax.process_count()
    own = slice(jax.process_index() * share, (jax.process_index() + 1) * share)
    losses: list[float] = []
    gradient: dict[str, Any] = {}
    for step in range(STEPS):
        images = random_crops(step)[own]
        state, metrics = trainer.step(state, images, jax.random.key(step))
        losses.append(float(metrics["loss"]))
        if step == 0:  # after one step the first moment is the gradient, times 1 - 0.9
            found = optax.tree.get_all_with_path(state.opt_state, "mu")
            moments = jax.tree.leaves([moment for _, moment in found])
            gradient = {f"gradient_{i}": np.asarray(moment) for i, moment in enumerate(moments)}
    return {"losses": losses, "devices": jax.device_count(), **gradient}


def interrupted_run(folder: Path, trainer: Trainer) -> dict[str, Any]:
    """Stop a run after two steps by one process alone, then resume it and train to the end."""
    spec = RunSpec(data=str(folder / "photos"), recipe=RUN, init=str(folder / START))
    trainer.recipe = RUN  # ends earlier, with the step that is already compiled
    finished, first = [], []
    for limit in (STOP, RUN.steps + 1):
        run, seen = open_run(spec, folder / "run", every=Every(record=1, plot=100)), []
        run.trainer = trainer
        state = run.resume()
        first.append(int(state.step))

        def stop(steps: list = seen, limit: int = limit) -> bool:
            steps.append(1)
            return jax.process_index() == 1 and len(steps) == limit

        finished.append(run.train(state, should_stop=stop))
    return {"finished": finished, "first": first}


if __name__ == "__main__":
    main(*sys.argv[1:])

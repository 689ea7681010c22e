"""Run aura-jax train: train with messages, a progress bar and TensorBoard files."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax

from aura_jax import console
from aura_jax.cli.interruption import Interruption
from aura_jax.errors import counted, first_of
from aura_jax.extras import needs
from aura_jax.training.config import PLAIN_LOSSES, RunSpec
from aura_jax.training.loop import Every, Observer, Run
from aura_jax.training.processes import join
from aura_jax.training.run import open_run
from aura_jax.training.skipped import Skipped
from aura_jax.training.workdir import Record

NOISY = ("absl", "asyncio")  # they log failed writes of checkpoints, which are raised as errors too


def run_training(
    spec: RunSpec,
    out: Path,
    every: Every,
    interruption: Interruption,
    *,
    tensorboard: bool = False,
    coordinator: str | None = None,
) -> bool:
    """Train to the end or to an interruption, and print the outcome.

    Returns:
        Whether the run is finished.
    """
    if coordinator is not None:
        join(coordinator)
        interruption.install()  # again: JAX's preemption service has replaced the SIGTERM handler
    if spec.perceptual is None and spec.recipe.losses == PLAIN_LOSSES:
        _say("no --perceptual weights: the losses lpips and gan are off; l1 and l2 replace them")
    with _quiet(*NOISY):
        run = open_run(spec, out, every=every, say=_say)
        try:
            finished = _train(run, interruption, tensorboard=tensorboard)
        except Exception:
            if run.writes:
                run.workdir.discard()
            raise
        finally:
            _say_skipped(run.skipped)
    if finished:
        _say(f"wrote {run.workdir.model}")
    return finished


def _train(run: Run, interruption: Interruption, *, tensorboard: bool) -> bool:
    steps, state = run.trainer.recipe.steps, run.resume()
    first = int(state.step)
    _say(f"training from step {first} to {steps} in {run.workdir.path}")
    events = run.workdir.events if tensorboard and run.writes else None
    with console.progress() as bar, _events(events, first) as write:
        task = bar.add_task("train", total=steps, completed=first)

        def observe(metrics: Record) -> None:
            text = f"loss {metrics['loss']:.4f}, PSNR {metrics['psnr']:.2f} dB"
            bar.update(task, completed=metrics["step"], description=text)
            if run.records(int(metrics["step"])) and not console.messages.is_terminal:
                console.messages.print(f"step {metrics['step']} of {steps}: {text}")
            write(metrics)

        interruption.defer()
        return run.train(state, observe=observe, should_stop=lambda: interruption.received)


def _say(line: str) -> None:
    """Print a line in one process of all that train together."""
    if jax.process_index() == 0:
        console.say(line)


def _say_skipped(skipped: Skipped) -> None:
    if reasons := skipped.read():
        lines = (f"{name}: {reason}" for name, reason in reasons.items())
        skips = f"skipped {len(reasons)} of {counted(skipped.total, 'image')}"
        _say(f"{skips}, listed in {skipped.path}; {first_of(lines)}")


@contextmanager
def _quiet(*loggers: str) -> Iterator[None]:
    """Silence loggers of other packages in the block."""
    levels = {name: logging.getLogger(name).level for name in loggers}
    for name in loggers:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


@contextmanager
def _events(folder: Path | None, first: int) -> Iterator[Observer]:
    """Yield a function that writes metrics for TensorBoard, from the step after `first` on."""
    if folder is None:
        yield lambda metrics: None
        return
    with needs("tensorboard"):
        from tensorboardX import SummaryWriter

    with SummaryWriter(str(folder), purge_step=first + 1) as writer:

        def write(metrics: Record) -> None:
            for name, value in metrics.items():
                writer.add_scalar(name, value, int(metrics["step"]))

        yield write

"""A run from its settings: the model, the data, the trainer and the folder put together."""

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grain
import jax
import jax.numpy as jnp
from flax import nnx

from aura_jax.checkpoint.loading import load
from aura_jax.config import PRESETS, AuraConfig
from aura_jax.console import progress, say
from aura_jax.errors import TrainingError
from aura_jax.extras import needs
from aura_jax.images.readers import ImageFile, find_images
from aura_jax.model.autoencoder import AuraEquiVAE
from aura_jax.training.config import PLAIN_LOSSES, PUBLISHED_LOSSES, Recipe
from aura_jax.training.data import Batch, Skipped, batches
from aura_jax.training.init import starting_point
from aura_jax.training.loop import Every, Observer, Record, Run
from aura_jax.training.networks.lpips import Perceptual, load_perceptual
from aura_jax.training.step import Trainer
from aura_jax.training.workdir import RunFolder

COMPUTE = {"bf16": jnp.bfloat16, "f32": jnp.float32}


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a run is started with.

    Attributes:
        data: folder or tar of pictures.
        out: the run's folder.
        recipe: how to train.
        config: sizes of a new model: the name of a preset, or a JSON file; or None.
        init: weights to start from instead.
        perceptual: file of VGG16 and maybe LPIPS.
        workers: processes that decode pictures.
        tensorboard: whether to write its files.
    """

    data: Path
    out: Path
    recipe: Recipe
    config: str | None = None
    init: str | None = None
    perceptual: Path | None = None
    workers: int = 0
    tensorboard: bool = False


def run(settings: Settings, every: Every, coordinator: str | None = None) -> None:
    """Trains to the end or to an interruption, and says how it went.

    Args:
        settings: the run.
        every: how often to write.
        coordinator: HOST:PORT,COUNT,INDEX or "auto", to train with other processes.

    Raises:
        AuraError: if the settings do not fit each other, the data or the run's folder.
    """
    if coordinator is not None:
        join(coordinator)
    if settings.out.resolve().is_relative_to(settings.data.resolve()):
        raise TrainingError(f"{settings.out}: lies in the data, which its pictures would join")
    photos = find_images([settings.data])
    _say(f"{settings.data}: {len(photos)} pictures")
    recipe, perceptual = _with_perceptual(settings)
    folder = RunFolder(settings.out)
    skipped = Skipped(folder.skipped, len(photos))
    data = batches(
        photos,
        recipe.crops,
        seed=recipe.seed,
        skipped=skipped,
        workers=settings.workers,
        process=jax.process_index(),
        processes=jax.process_count(),
    )
    vae = _model(settings)
    recipe.check(vae.config, jax.device_count())
    folder.open(_description(settings, recipe, vae.config, photos))
    trainer = Trainer(recipe, vae, perceptual)
    try:
        done = _train(trainer, data, skipped, folder, every, settings.tensorboard)
    finally:
        _say_left_out(skipped)
    _say(f"wrote {folder.model}" if done else "interrupted; the same command goes on from here")


def _say(line: str) -> None:
    """Says it once, however many processes train."""
    if jax.process_index() == 0:
        say(line)


def _say_left_out(skipped: Skipped) -> None:
    reasons = skipped.read().values()
    if reasons:
        _say(f"left out {len(reasons)} of {skipped.total} pictures")
    for reason in reasons:
        _say(f"left out: {reason}")


def join(coordinator: str) -> None:
    """Makes this process one of several that train together.

    Args:
        coordinator: HOST:PORT,COUNT,INDEX, the address at which process 0 is found; or "auto",
            where the cluster tells.

    Raises:
        TrainingError: if it is of another form.
    """
    if coordinator == "auto":
        try:
            jax.distributed.initialize()
        except (ValueError, RuntimeError) as error:
            raise TrainingError(f"coordinator auto: no cluster was found ({error})") from None
        return
    match = re.fullmatch(r"(.+:\d+),(\d+),(\d+)", coordinator)
    if match is None or int(match[3]) >= int(match[2]):
        raise TrainingError(f"coordinator {coordinator!r}: expected HOST:PORT,COUNT,INDEX or auto")
    jax.distributed.initialize(match[1], int(match[2]), int(match[3]))


def _train(
    trainer: Trainer,
    data: grain.DatasetIterator[Batch],
    skipped: Skipped,
    folder: RunFolder,
    every: Every,
    tensorboard: bool,
) -> bool:
    """Trains with a progress bar; whether it got to the end."""
    steps = trainer.recipe.steps
    run = Run(trainer, data, skipped, folder, every=every)
    state = run.resume()
    first = int(state.step)
    _say(f"training from step {first} to {steps} in {folder.path}")
    events = folder.path if tensorboard and run.writes else None
    with progress() as bar, _events(events, first) as write:
        task = bar.add_task("train", total=steps)

        def observe(metrics: Record) -> None:
            text = f"loss {metrics['loss']:.4f}, PSNR {metrics['psnr']:.2f} dB"
            bar.update(task, completed=metrics["step"], description=text)
            write(metrics)

        run.observe = observe
        return run.train(state)


@contextmanager
def _events(folder: Path | None, first: int) -> Iterator[Observer]:
    """What writes metrics for TensorBoard from a step on, or nothing."""
    if folder is None:
        yield lambda metrics: None
        return
    with needs("tensorboard"):
        from tensorboardX import SummaryWriter

    with SummaryWriter(str(folder / "tensorboard"), purge_step=first + 1) as writer:

        def write(metrics: Record) -> None:
            for name, value in metrics.items():
                writer.add_scalar(name, value, int(metrics["step"]))

        yield write


def _with_perceptual(settings: Settings) -> tuple[Recipe, Perceptual | None]:
    """The recipe without losses that there are no weights for, which is said, and the weights."""
    recipe, path = settings.recipe, settings.perceptual
    if path is None:
        if recipe.losses == PLAIN_LOSSES:
            _say("no --perceptual weights: the losses lpips and gan are off, l1 and l2 stand in")
        return recipe, None
    perceptual = load_perceptual(path)
    if perceptual.lpips is None and "lpips" in recipe.weights:
        if recipe.losses != PUBLISHED_LOSSES:
            raise TrainingError(f"{path}: has no LPIPS heads, which the loss lpips needs")
        _say(f"{path}: no LPIPS heads, so the loss lpips is off")
        kept = tuple(loss for loss in recipe.losses if loss[0] != "lpips")
        recipe = dataclasses.replace(recipe, losses=kept)
    return recipe, perceptual


def _model(settings: Settings) -> AuraEquiVAE:
    """A new model, or the one to fine-tune."""
    if (settings.config is None) == (settings.init is None):
        raise TrainingError("give --config for a new model, or --init for weights to fine-tune")
    compute, seed = COMPUTE[settings.recipe.dtype], settings.recipe.seed
    if settings.init is not None:
        vae = load(settings.init, dtype=compute, param_dtype=jnp.float32)
    else:
        config = _config(settings.config or "")
        vae = starting_point(AuraEquiVAE(config, dtype=compute, rngs=nnx.Rngs(seed)))
    vae.config.check_rgb(settings.init or settings.config)
    return vae


def _config(name: str) -> AuraConfig:
    if name in PRESETS:
        return PRESETS[name]
    try:
        return AuraConfig.from_json(Path(name).read_text())
    except OSError as error:
        presets = ", ".join(PRESETS)
        raise TrainingError(
            f"config {name!r}: expected {presets} or a JSON file ({error.strerror})"
        ) from None
    except UnicodeDecodeError:
        raise TrainingError(f"config {name!r}: not a JSON file, its text is not UTF-8") from None


def _description(
    settings: Settings, recipe: Recipe, config: AuraConfig, photos: Sequence[ImageFile]
) -> dict[str, Any]:
    """What a run must repeat to go on; JSON as it is read back."""
    names = "\n".join(map(str, photos)).encode(errors="surrogateescape")
    given = {
        "config": dataclasses.asdict(config),
        "recipe": dataclasses.asdict(recipe),
        "data": str(settings.data),
        "pictures": len(photos),
        "pictures_sha256": hashlib.sha256(names).hexdigest(),
        "workers": settings.workers,
        "init": settings.init,
        "perceptual": str(settings.perceptual),
        "processes": jax.process_count(),
    }
    return json.loads(json.dumps(given))

"""The command aura-jax train, which checks its options before anything heavy is imported."""

from pathlib import Path

from aura_jax.cli import train_options as option
from aura_jax.cli.interruption import interruption
from aura_jax.cli.options import MaxPixels, RawColors
from aura_jax.cli.run import StoppedError
from aura_jax.config import PRESETS, AuraConfig
from aura_jax.errors import TrainingError
from aura_jax.extras import needs
from aura_jax.files import check_folder
from aura_jax.images.options import MAX_PIXELS, Decoding
from aura_jax.training.config import (
    PERCEPTUAL_LOSSES,
    PLAIN_LOSSES,
    PUBLISHED_LOSSES,
    Crops,
    Losses,
    Recipe,
    RunSpec,
    parse_loss,
)


def train(
    data: option.Data,
    out: option.Out,
    steps: option.Steps = 20_000,
    crops: option.Crops = None,
    max_pixels: MaxPixels = MAX_PIXELS,
    raw_colors: RawColors = False,
    workers: option.Workers = 0,
    config: option.Config = None,
    init: option.Init = None,
    perceptual: option.Perceptual = None,
    train: option.Train = "all",
    equivariant: option.Equivariant = False,
    loss: option.Loss = None,
    gradnorm: option.Gradnorm = None,
    learning_rate: option.LearningRate = 2**-6,
    accumulate: option.Accumulate = 1,
    remat: option.Remat = False,
    compute_dtype: option.ComputeDtype = None,
    ema: option.Ema = 0.999,
    noise: option.Noise = 0.1,
    p_horizontal: option.PHorizontal = 0.5,
    p_vertical: option.PVertical = 0.5,
    seed: option.Seed = 0,
    record_every: option.RecordEvery = 10,
    save_every: option.SaveEvery = 1000,
    plot_every: option.PlotEvery = 1000,
    tensorboard: option.TensorBoard = False,
    coordinator: option.Coordinator = None,
) -> None:
    """Train or fine-tune an autoencoder whose latents can be flipped like images.

    The same command resumes a run that was interrupted. With more steps it
    continues a finished run. Ctrl-C, SIGTERM, SIGHUP and SIGUSR1 save a
    checkpoint before the command ends.
    """
    losses = tuple(map(parse_loss, loss or ())) or _default_losses(perceptual)
    recipe = Recipe(
        steps=steps,
        crops=tuple(map(Crops.parse, crops or ("256x16",))),
        losses=losses,
        gradnorm=gradnorm or ("none" if losses == PLAIN_LOSSES else "batch"),
        train=train,
        equivariant=equivariant,
        noise=noise,
        p_horizontal=p_horizontal,
        p_vertical=p_vertical,
        learning_rate=learning_rate,
        ema=ema,
        accumulate=accumulate,
        remat=remat,
        dtype=compute_dtype,
        seed=seed,
    )
    _check_weights(recipe, perceptual)
    spec = RunSpec(
        data=str(data),
        recipe=recipe,
        config=None if config is None else _read_config(config),
        init=init,
        perceptual=None if perceptual is None else str(perceptual),
        workers=workers,
        decoding=Decoding(max_pixels, raw_colors),
    )
    check_folder(out)
    with interruption() as answer:
        with needs("train"):
            from aura_jax.cli.training import run_training
            from aura_jax.training.loop import Every
        every = Every(record_every, save_every, plot_every)
        finished = run_training(
            spec, out, every, answer, tensorboard=tensorboard, coordinator=coordinator
        )
    if not finished:
        raise StoppedError("saved, and the same command resumes the run")


def _default_losses(perceptual: Path | None) -> Losses:
    return PLAIN_LOSSES if perceptual is None else PUBLISHED_LOSSES


def _check_weights(recipe: Recipe, perceptual: Path | None) -> None:
    wanting = [name for name in recipe.weights if name in PERCEPTUAL_LOSSES]
    if wanting and perceptual is None:
        raise TrainingError(f"the losses {', '.join(wanting)} need weights: give --perceptual")


def _read_config(name: str) -> AuraConfig:
    """Return the config of a preset or a JSON file."""
    if name in PRESETS:
        return PRESETS[name]
    from aura_jax.checkpoint.description import Description  # late, since it imports numpy

    try:
        return Description.from_json(Path(name).read_text()).config
    except OSError as error:
        presets = ", ".join(PRESETS)
        raise TrainingError(
            f"config {name!r}: expected {presets} or a JSON file ({error.strerror})"
        ) from None
    except UnicodeDecodeError:
        raise TrainingError(f"config {name!r}: not a JSON file: its text is not UTF-8") from None

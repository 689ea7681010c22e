"""The command aura-jax train: its options, checked before anything heavy is imported."""

from pathlib import Path
from typing import Annotated, Any

import typer

from aura_jax.cli.interruption import interruption
from aura_jax.cli.options import MaxPixels, RawColors, dtype_option
from aura_jax.cli.run import StoppedError
from aura_jax.config import PRESETS, AuraConfig
from aura_jax.errors import TrainingError
from aura_jax.extras import needs
from aura_jax.files import check_folder
from aura_jax.images.options import MAX_PIXELS, Decoding
from aura_jax.training.config import (
    LOSSES,
    PERCEPTUAL_LOSSES,
    PLAIN_LOSSES,
    PUBLISHED_LOSSES,
    Crops,
    GradientNorms,
    Losses,
    Recipe,
    RunSpec,
    Trained,
    parse_loss,
)

LENGTH, START, STEP, FLIPS, RUN = "Data and length", "Start", "Step", "Noise and flips", "Run"


def _option(panel: str, text: str, *names: str, **more: Any) -> Any:
    return typer.Option(*names, help=text, rich_help_panel=panel, **more)


def train(
    data: Annotated[
        Path,
        typer.Option(
            help="Images to train on: an image file, a folder (searched at any depth, with the "
            "WebDataset tars in it), or one tar."
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="Folder of the run. An interrupted run in it is resumed.")
    ],
    steps: Annotated[int, _option(LENGTH, "Number of optimizer steps.")] = 20_000,
    crops: Annotated[
        list[str] | None,
        _option(
            LENGTH,
            "Size of crops in pixels, and number of crops per batch; may be given several times "
            "to alternate between sizes.",
            metavar="SIZExBATCH",
            show_default="256x16",
        ),
    ] = None,
    max_pixels: MaxPixels = MAX_PIXELS,
    raw_colors: RawColors = False,
    workers: Annotated[
        int,
        _option(LENGTH, "Number of processes that decode images; 0 decodes in threads.", min=0),
    ] = 0,
    config: Annotated[
        str | None,
        _option(
            START,
            "Sizes of a new model: small or published (those of the checkpoint small or of "
            "fal/AuraEquiVAE, but with new parameters), or a JSON file. Cannot be combined with "
            "--init.",
        ),
    ] = None,
    init: Annotated[
        str | None,
        _option(
            START,
            "Checkpoint to fine-tune: small or small-equivariant (in the package), a file or "
            "folder, or a Hugging Face id such as fal/AuraEquiVAE. Cannot be combined with "
            "--config.",
        ),
    ] = None,
    perceptual: Annotated[
        Path | None,
        _option(
            START,
            "File of VGG16 and LPIPS weights that `python -m convert.perceptual` wrote. Without it "
            "the losses lpips and gan are off.",
        ),
    ] = None,
    train: Annotated[
        Trained,
        _option(
            STEP,
            "Networks to train: all, encoder or decoder; a network that is not trained keeps its "
            "parameters.",
            metavar="[all|encoder|decoder]",
        ),
    ] = "all",
    equivariant: Annotated[
        bool,
        _option(
            STEP,
            "Keep the decoder symmetric, so that it commutes with flips exactly.",
            "--equivariant",
        ),
    ] = False,
    loss: Annotated[
        list[str] | None,
        _option(
            STEP,
            f"Loss and its weight; may be given several times. Names: {', '.join(LOSSES)}.",
            metavar="NAME=WEIGHT",
            show_default="those of the published recipe; without --perceptual: l1, l2 and z2",
        ),
    ] = None,
    gradnorm: Annotated[
        GradientNorms | None,
        _option(
            STEP,
            "How to normalize the gradients of image losses: batch (each pixel by the norm over "
            "the batch), tensor (by the norm of the whole gradient) or none.",
            metavar="[batch|tensor|none]",
            show_default="batch; for the default losses without --perceptual: none",
        ),
    ] = None,
    learning_rate: Annotated[
        float, _option(STEP, "Learning rate; it is divided by the config's ch.")
    ] = 2**-6,
    accumulate: Annotated[
        int,
        _option(STEP, "Number of micro-batches per step, for batches that do not fit in memory."),
    ] = 1,
    remat: Annotated[
        bool,
        _option(STEP, "Recompute residual blocks to save memory; steps take longer.", "--remat"),
    ] = False,
    compute_dtype: Annotated[
        str | None,
        dtype_option(
            "--compute-dtype",
            "Compute in this dtype, with parameters in float32",
            ("bfloat16", "float32"),
            default="float32 on a CPU, bfloat16 on a GPU or TPU",
            rich_help_panel=STEP,
        ),
    ] = None,
    ema: Annotated[
        float, _option(STEP, "Decay of the averaged parameters, which the run saves.")
    ] = 0.999,
    noise: Annotated[
        float, _option(FLIPS, "Standard deviation of the multiplicative noise on latents.")
    ] = 0.1,
    p_horizontal: Annotated[
        float, _option(FLIPS, "Probability of a horizontal flip of a sample.")
    ] = 0.5,
    p_vertical: Annotated[
        float, _option(FLIPS, "Probability of a vertical flip of a sample.")
    ] = 0.5,
    seed: Annotated[
        int, _option(RUN, "Random seed of initial parameters, data order, crops, noise and flips.")
    ] = 0,
    record_every: Annotated[
        int, _option(RUN, "Number of steps between recorded metrics.", min=1)
    ] = 10,
    save_every: Annotated[int, _option(RUN, "Number of steps between checkpoints.", min=1)] = 1000,
    plot_every: Annotated[
        int, _option(RUN, "Number of steps between plots of samples and losses.", min=1)
    ] = 1000,
    tensorboard: Annotated[
        bool, _option(RUN, "Write TensorBoard files into the run's folder.", "--tensorboard")
    ] = False,
    coordinator: Annotated[
        str | None,
        _option(
            RUN,
            "Train with other processes: the address of process 0, their number and the index of "
            "this one, or auto on a cluster.",
            metavar="HOST:PORT,COUNT,INDEX|auto",
        ),
    ] = None,
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

"""The command aura-jax train: its options, checked before anything heavy is imported."""

from pathlib import Path
from typing import Annotated

import typer

from aura_jax.errors import TrainingError
from aura_jax.extras import needs
from aura_jax.training.config import (
    PERCEPTUAL_LOSSES,
    PLAIN_LOSSES,
    PUBLISHED_LOSSES,
    ComputeType,
    Crops,
    GradientNorms,
    Losses,
    Recipe,
    Trained,
    parse_loss,
)

LENGTH, START, STEP, FLIPS, RUN = "Data and length", "Start", "Step", "Noise and flips", "Run"


def train(
    data: Annotated[
        Path, typer.Option(help="A folder of pictures or WebDataset tars, or one tar.")
    ],
    out: Annotated[Path, typer.Option(help="The run's folder; a run that is there goes on.")],
    steps: Annotated[int, typer.Option(help="Length of the run.", rich_help_panel=LENGTH)] = 20_000,
    crops: Annotated[
        list[str] | None,
        typer.Option(
            help="SIZExBATCH, 256x16 by default; several are taken in turns.",
            rich_help_panel=LENGTH,
        ),
    ] = None,
    workers: Annotated[
        int,
        typer.Option(
            min=0, help="Processes that decode pictures; 0: threads.", rich_help_panel=LENGTH
        ),
    ] = 0,
    config: Annotated[
        str | None,
        typer.Option(
            help="Sizes of a new model: small, published, or a JSON file.", rich_help_panel=START
        ),
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(help="Weights to fine-tune: a file or a hub id.", rich_help_panel=START),
    ] = None,
    perceptual: Annotated[
        Path | None,
        typer.Option(help="Weights that `convert.perceptual` wrote.", rich_help_panel=START),
    ] = None,
    train: Annotated[
        Trained, typer.Option(help="Which network learns.", rich_help_panel=STEP)
    ] = "all",
    loss: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=WEIGHT, once for each; the published recipe's by default.",
            rich_help_panel=STEP,
        ),
    ] = None,
    gradnorm: Annotated[
        GradientNorms | None,
        typer.Option(
            help="How gradients of image losses are scaled; without --loss and --perceptual: none.",
            rich_help_panel=STEP,
        ),
    ] = None,
    learning_rate: Annotated[
        float, typer.Option(help="Divided by the config's ch.", rich_help_panel=STEP)
    ] = 2**-6,
    accumulate: Annotated[
        int, typer.Option(help="Micro-batches a step.", rich_help_panel=STEP)
    ] = 1,
    remat: Annotated[
        bool, typer.Option("--remat", help="Less memory, more time.", rich_help_panel=STEP)
    ] = False,
    dtype: Annotated[
        ComputeType, typer.Option(help="To compute in.", rich_help_panel=STEP)
    ] = "bf16",
    ema: Annotated[
        float, typer.Option(help="Decay of the averaged weights.", rich_help_panel=STEP)
    ] = 0.999,
    noise: Annotated[
        float, typer.Option(help="σ of the latent's noise.", rich_help_panel=FLIPS)
    ] = 0.1,
    p_horizontal: Annotated[float, typer.Option(help="Of a flip.", rich_help_panel=FLIPS)] = 0.5,
    p_vertical: Annotated[float, typer.Option(help="Of a flip.", rich_help_panel=FLIPS)] = 0.5,
    seed: Annotated[int, typer.Option(help="Of all chance.", rich_help_panel=RUN)] = 0,
    record_every: Annotated[
        int, typer.Option(min=1, help="Steps between lines of metrics.", rich_help_panel=RUN)
    ] = 10,
    save_every: Annotated[
        int, typer.Option(min=1, help="Steps between checkpoints.", rich_help_panel=RUN)
    ] = 1000,
    picture_every: Annotated[
        int, typer.Option(min=1, help="Steps between pictures.", rich_help_panel=RUN)
    ] = 1000,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write its files too.", rich_help_panel=RUN)
    ] = False,
    coordinator: Annotated[
        str | None,
        typer.Option(
            help="HOST:PORT,COUNT,INDEX of processes that train together, or auto on a cluster.",
            rich_help_panel=RUN,
        ),
    ] = None,
) -> None:
    """Train an autoencoder whose latents flip, or fine-tune one.

    The same command goes on with a run that was interrupted.
    """
    losses = tuple(map(parse_loss, loss or ())) or _default_losses(perceptual)
    wanting = [name for name, _ in losses if name in PERCEPTUAL_LOSSES]
    if wanting and perceptual is None:
        raise TrainingError(f"the losses {', '.join(wanting)} need weights: give --perceptual")
    recipe = Recipe(
        steps=steps,
        crops=tuple(map(Crops.parse, crops or ("256x16",))),
        losses=losses,
        gradnorm=gradnorm or ("none" if losses == PLAIN_LOSSES else "batch"),
        train=train,
        noise=noise,
        p_horizontal=p_horizontal,
        p_vertical=p_vertical,
        learning_rate=learning_rate,
        ema=ema,
        accumulate=accumulate,
        remat=remat,
        dtype=dtype,
        seed=seed,
    )
    with needs("train"):
        from aura_jax.training import run
        from aura_jax.training.loop import Every
    run.run(
        run.Settings(data, out, recipe, config, init, perceptual, workers, tensorboard),
        Every(record_every, save_every, picture_every),
        coordinator,
    )


def _default_losses(perceptual: Path | None) -> Losses:
    return PLAIN_LOSSES if perceptual is None else PUBLISHED_LOSSES

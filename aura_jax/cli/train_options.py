"""The options of aura-jax train, each as the type of its parameter."""

from pathlib import Path
from typing import Annotated, Any

import typer

from aura_jax.cli.options import dtype_option
from aura_jax.training.config import LOSSES, GradientNorms, Trained

LENGTH, START, STEP, FLIPS, RUN = "Data and length", "Start", "Step", "Noise and flips", "Run"


def _option(panel: str, text: str, *names: str, **more: Any) -> Any:
    return typer.Option(*names, help=text, rich_help_panel=panel, **more)


Data = Annotated[
    Path,
    typer.Option(
        help="Images to train on: an image file, a folder (searched at any depth, with the "
        "WebDataset tars in it), or one tar."
    ),
]
Out = Annotated[Path, typer.Option(help="Folder of the run. An interrupted run in it is resumed.")]
Steps = Annotated[int, _option(LENGTH, "Number of optimizer steps.")]
Crops = Annotated[
    list[str] | None,
    _option(
        LENGTH,
        "Size of crops in pixels, and number of crops per batch; may be given several times "
        "to alternate between sizes.",
        metavar="SIZExBATCH",
        show_default="256x16",
    ),
]
Workers = Annotated[
    int,
    _option(LENGTH, "Number of processes that decode images; 0 decodes in threads.", min=0),
]
Config = Annotated[
    str | None,
    _option(
        START,
        "Sizes of a new model: small or published (those of the checkpoint small or of "
        "fal/AuraEquiVAE, but with new parameters), or a JSON file. Cannot be combined with "
        "--init.",
    ),
]
Init = Annotated[
    str | None,
    _option(
        START,
        "Checkpoint to fine-tune: small (comes with the package), a file or folder, or a "
        "Hugging Face id such as fal/AuraEquiVAE. Cannot be combined with --config.",
    ),
]
Perceptual = Annotated[
    Path | None,
    _option(
        START,
        "File of VGG16 and LPIPS weights that `python -m convert.perceptual` wrote. Without it "
        "the losses lpips and gan are off.",
    ),
]
Train = Annotated[
    Trained,
    _option(
        STEP,
        "Networks to train: all, encoder or decoder; a network that is not trained keeps its "
        "parameters.",
        metavar="[all|encoder|decoder]",
    ),
]
Equivariant = Annotated[
    bool,
    _option(
        STEP,
        "Keep the decoder symmetric in each step, so that it commutes with flips exactly, at no "
        "cost. With --init it is first replaced by the nearest symmetric one.",
        "--equivariant",
    ),
]
Loss = Annotated[
    list[str] | None,
    _option(
        STEP,
        f"Loss and its weight; may be given several times. Names: {', '.join(LOSSES)}.",
        metavar="NAME=WEIGHT",
        show_default="those of the published recipe; without --perceptual: l1, l2 and z2",
    ),
]
Gradnorm = Annotated[
    GradientNorms | None,
    _option(
        STEP,
        "How to normalize the gradients of image losses: batch (each pixel by the norm over "
        "the batch), tensor (by the norm of the whole gradient) or none.",
        metavar="[batch|tensor|none]",
        show_default="batch; for the default losses without --perceptual: none",
    ),
]
LearningRate = Annotated[float, _option(STEP, "Learning rate; it is divided by the config's ch.")]
Accumulate = Annotated[
    int,
    _option(STEP, "Number of micro-batches per step, for batches that do not fit in memory."),
]
Remat = Annotated[
    bool,
    _option(STEP, "Recompute residual blocks to save memory; steps take longer.", "--remat"),
]
ComputeDtype = Annotated[
    str | None,
    dtype_option(
        "--compute-dtype",
        "Compute in this dtype, with parameters in float32",
        ("bfloat16", "float32"),
        default="float32 on a CPU, bfloat16 on a GPU or TPU",
        rich_help_panel=STEP,
    ),
]
Ema = Annotated[float, _option(STEP, "Decay of the averaged parameters, which the run saves.")]
Noise = Annotated[
    float, _option(FLIPS, "Standard deviation of the multiplicative noise on latents.")
]
PHorizontal = Annotated[float, _option(FLIPS, "Probability of a horizontal flip of a sample.")]
PVertical = Annotated[float, _option(FLIPS, "Probability of a vertical flip of a sample.")]
Seed = Annotated[
    int, _option(RUN, "Random seed of initial parameters, data order, crops, noise and flips.")
]
RecordEvery = Annotated[int, _option(RUN, "Number of steps between recorded metrics.", min=1)]
SaveEvery = Annotated[int, _option(RUN, "Number of steps between checkpoints.", min=1)]
PlotEvery = Annotated[
    int, _option(RUN, "Number of steps between plots of samples and losses.", min=1)
]
TensorBoard = Annotated[
    bool, _option(RUN, "Write TensorBoard files into the run's folder.", "--tensorboard")
]
Coordinator = Annotated[
    str | None,
    _option(
        RUN,
        "Train with other processes: the address of process 0, their number and the index of "
        "this one, or auto on a cluster.",
        metavar="HOST:PORT,COUNT,INDEX|auto",
    ),
]

"""The options of aura-jax cache."""

from pathlib import Path
from typing import Annotated

import typer

from aura_jax.cli.options import SQUARE, dtype_option
from aura_jax.latents.choices import COMPUTE_NAMES, STORAGE_NAMES, ExecutorName, Format

Folder = Annotated[
    Path, typer.Argument(metavar="CACHE", help="The folder that `aura-jax cache make` wrote.")
]

StorageDtype = Annotated[
    str,
    dtype_option("--storage-dtype", "Store latents in this dtype", STORAGE_NAMES),
]
CacheComputeDtype = Annotated[
    str | None,
    dtype_option(
        "--compute-dtype",
        "Compute in this dtype",
        COMPUTE_NAMES,
        default="float32 on a CPU, bfloat16 on a GPU or TPU",
    ),
]
Size = Annotated[
    int | None,
    typer.Option(help=SQUARE, show_default="keep images unchanged; all must have one size"),
]
AspectRatios = Annotated[
    bool,
    typer.Option(
        "--aspect-ratios",
        help="Scale each image to cover the size with the nearest aspect ratio, out of several "
        "with about the area of --area, and cut off the rest.",
    ),
]
Area = Annotated[
    int | None,
    typer.Option(
        help="Side in pixels of a square, a multiple of 64; the sizes of --aspect-ratios have "
        "its area or a little less."
    ),
]
BucketSizes = Annotated[
    list[str] | None,
    typer.Option(
        metavar="WIDTHxHEIGHT",
        help="Size in pixels for images of about its aspect ratio, in multiples of 8, instead "
        "of the sizes of --aspect-ratios; may be given several times.",
    ),
]
FormatName = Annotated[
    Format,
    typer.Option(
        metavar="FORMAT",
        help="Format of the shards: arrayrecord (for Grain) or webdataset (tars).",
    ),
]
Batch = Annotated[
    int,
    typer.Option(
        min=1,
        help="Number of images to encode at once, shared by all devices and rounded up to a "
        "multiple of them.",
    ),
]
PerShard = Annotated[
    int,
    typer.Option(
        min=1,
        help="Number of a folder's files in each shard; each tar makes one shard. Images of "
        "several sizes make one of each size.",
    ),
]
MaxSkipped = Annotated[
    int,
    typer.Option(
        min=0,
        help="Stop with an error if more images than this are skipped, since they cannot be "
        "read or would lose more than half of their area.",
    ),
]
PrefixKeys = Annotated[
    bool,
    typer.Option(
        "--prefix-keys",
        help="Begin the keys of a tar's images with the tar's name, for tars with equal keys.",
    ),
]
ExecutorChoice = Annotated[
    ExecutorName,
    typer.Option(
        metavar="EXECUTOR",
        help="Where to run: local (this machine's devices) or ray (a Ray cluster).",
    ),
]
Job = Annotated[
    str,
    typer.Option(
        metavar="I/N",
        help="Make only every N-th shard, starting at shard I, as one of N jobs that share the "
        "work.",
    ),
]
Out = Annotated[Path, typer.Option(help="Folder to write the cache to.")]

"""Options that several commands share."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from aura_jax.errors import AuraError

DEFAULT_WEIGHTS = "small"


def dtype_option(
    flag: str, purpose: str, choices: Sequence[str], default: str | None = None, **more: Any
) -> Any:
    """Make an option that takes a dtype by its full or short name, such as bfloat16 or bf16.

    Args:
        flag: the option, such as "--compute-dtype".
        purpose: the start of the help text, before the choices, such as "Compute in this dtype".
        choices: the full names of the dtypes that it accepts, one of which the command receives.
        default: a description of the default, if it depends on the machine.
        more: other arguments of `typer.Option`.
    """

    def dtype(text: str) -> str:
        import numpy as np  # late, since `--help` does not need it

        from aura_jax.dtypes import as_dtype

        try:
            return str(as_dtype(text, [np.dtype(choice) for choice in choices]))
        except AuraError as error:
            raise typer.BadParameter(str(error)) from None

    return typer.Option(
        flag,
        metavar="DTYPE",
        parser=dtype,
        help=f"{purpose}: {', '.join(choices)} (short forms such as bf16 are accepted).",
        show_default=default or True,
        **more,
    )


Images = Annotated[
    list[Path],
    typer.Argument(
        metavar="IMAGE", help="Image files, folders (searched at any depth) or WebDataset tars."
    ),
]
Weights = Annotated[
    str,
    typer.Option(
        help="The checkpoint: small (comes with the package), a file or folder, or a Hugging Face "
        "id such as fal/AuraEquiVAE."
    ),
]
Prefix = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Read only the tensors whose names start with this, such as first_stage_model; losses "
        "and discriminators under it are ignored.",
        show_default="the prefix of all names, if they have one",
    ),
]
ComputeDtype = Annotated[
    str | None,
    dtype_option(
        "--compute-dtype",
        "Compute in this dtype",
        ("bfloat16", "float16", "float32"),
        default="float32 on a CPU, bfloat16 on a GPU or TPU",
    ),
]
MaxPixels = Annotated[
    int,
    typer.Option(min=1, help="Skip image files with more pixels than this, without decoding them."),
]
RawColors = Annotated[
    bool,
    typer.Option(
        "--raw-colors",
        help="Keep color values as they are stored, instead of converting them to sRGB by the ICC "
        "profile of an image file.",
    ),
]
Equivariant = Annotated[
    bool,
    typer.Option(
        "--equivariant",
        help="Average the model over the flips, so that it commutes with them exactly; it takes "
        "four times as long.",
    ),
]
ANY_SQUARE = (
    "Cut the largest centered square from each image and scale its sides to this many pixels."
)
SQUARE = f"{ANY_SQUARE.removesuffix('.')}, a multiple of 8."
Size = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Cut a square of this many pixels a side from each image, without scaling.",
        show_default="the whole image",
    ),
]
Crop = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Offset in pixels of the square of --size from the left edge and from the top edge.",
        show_default="centered",
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace output files that exist.")]
Json = Annotated[bool, typer.Option("--json", help="Print the results as one JSON document.")]


def check_crop(size: int | None, crop: int | None) -> None:
    """Check the options --size and --crop together.

    Raises:
        AuraError: if there is a place for a square, but no size.
    """
    if crop is not None and size is None:
        raise AuraError("--crop places a square of --size pixels; give --size too")

"""The options of python -m convert, each as the type of its parameter."""

from pathlib import Path
from typing import Annotated

import typer

from aura_jax.checkpoint.names import Layout as LayoutName

Src = Annotated[
    str,
    typer.Argument(
        metavar="SRC",
        help="The checkpoint to convert: a file or folder, or a Hugging Face id such "
        "as fal/AuraEquiVAE.",
    ),
]
Dst = Annotated[Path, typer.Argument(metavar="DST", help="The safetensors file to write.")]
Layout = Annotated[
    LayoutName,
    typer.Option(
        help="Names and axes to write: flax (kernel and scale, HWIO) or torch (weight, OIHW)."
    ),
]
ParamDtype = Annotated[
    str | None,
    typer.Option(
        metavar="DTYPE",
        help="Cast the parameters to bfloat16, float16 or float32; by default they keep their "
        "dtypes.",
    ),
]
Verify = Annotated[
    bool,
    typer.Option(
        "--verify",
        help="Compare every stage of the converted model with PyTorch before writing DST; this "
        "needs PyTorch.",
    ),
]
AllowPickle = Annotated[
    bool,
    typer.Option(
        "--allow-pickle",
        help="Read SRC even if it is a pickle, with weights_only=True; this needs PyTorch.",
    ),
]
Key = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Read the state dict under this key of a pickle that holds several, such as ema; "
        "nested keys are separated by dots.",
    ),
]

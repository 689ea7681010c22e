"""The command python -m convert.perceptual: convert VGG16 and LPIPS heads from PyTorch."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.filesize import decimal
from safetensors.numpy import save_file

from aura_jax.checkpoint.names import hwio, torch_name, torch_shape
from aura_jax.checkpoint.tensors import StoredCheckpoint
from aura_jax.checkpoint.validation import read_exactly
from aura_jax.cli.options import Overwrite
from aura_jax.cli.run import new_app, run
from aura_jax.console import say
from aura_jax.dtypes import FLOAT32
from aura_jax.files import check_free, replacing
from aura_jax.model.parameters import shapes_of
from aura_jax.training.networks.lpips import abstract_lpips
from convert.source import open_source

# Indices of each stage's convolutions in torchvision's `features`, which also has relus and pools.
FEATURES = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))
VGG16_LAYERS = {
    f"vgg.stages.{i}.{j}": f"features.{index}"
    for i, indices in enumerate(FEATURES)
    for j, index in enumerate(indices)
}
LPIPS_LAYERS = {f"heads.{i}": f"lin{i}.model.1" for i in range(len(FEATURES))}

app = new_app(add_completion=False)


@app.command(
    epilog="Example: python -m convert.perceptual vgg16-397923af.pth perceptual.safetensors "
    "--lpips vgg.pth"
)
def convert(
    vgg16: Annotated[
        Path,
        typer.Argument(
            metavar="VGG16",
            help="The state dict of torchvision's vgg16: safetensors, or a pickle, which needs "
            "PyTorch and is read with weights_only=True.",
        ),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The safetensors file to write.")],
    lpips: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The state dict of the lpips package's heads for VGG16, weights/v0.1/vgg.pth. "
            "Without it OUT has no heads, and only the loss gan can use it.",
        ),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Convert VGG16 and the heads of LPIPS for the training losses lpips and gan."""
    check_free(out, overwrite=overwrite)
    vgg = _without_classifier(open_source(vgg16, allow_pickle=True, networks={"features"}))
    heads = lpips and open_source(
        lpips, allow_pickle=True, networks={name.split(".")[0] for name in LPIPS_LAYERS.values()}
    )
    arrays = _converted(vgg, VGG16_LAYERS, "the state dict of torchvision's vgg16")
    if heads:
        arrays |= _converted(heads, LPIPS_LAYERS, "the LPIPS heads in lpips' vgg.pth")
    with replacing(out) as temporary:
        save_file(arrays, temporary)
    holds = "VGG16 and LPIPS heads" if heads else "VGG16 without LPIPS heads"
    say(f"wrote {out} ({decimal(out.stat().st_size)}): {holds}")


def _converted(
    source: StoredCheckpoint, layers: Mapping[str, str], noun: str
) -> dict[str, np.ndarray]:
    """Read the tensors of some layers, with the names and axes of Flax."""
    names, shapes = {}, {}
    for name, shape in shapes_of(abstract_lpips()).items():
        layer, _, leaf = name.rpartition(".")
        if layer in layers:
            names[torch_name(f"{layers[layer]}.{leaf}")] = name
            shapes[torch_name(f"{layers[layer]}.{leaf}")] = torch_shape(shape)
    arrays = read_exactly(source, shapes, noun, dtype=FLOAT32)
    return {names[theirs]: hwio(array) for theirs, array in arrays}


def _without_classifier(source: StoredCheckpoint) -> StoredCheckpoint:
    """Remove the layers after the convolutions, which no loss uses."""
    tensors = {n: t for n, t in source.tensors.items() if not n.startswith("classifier.")}
    return dataclasses.replace(source, tensors=tensors)


if __name__ == "__main__":
    run(app)

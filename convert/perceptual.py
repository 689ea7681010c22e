"""python -m convert.perceptual VGG16 OUT: PyTorch's VGG16 and LPIPS heads for aura_jax.training."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.filesize import decimal
from safetensors.numpy import save_file

from aura_jax.checkpoint.names import hwio, torch_name, torch_shape
from aura_jax.checkpoint.tensors import StoredCheckpoint, StoredTensor, is_pickle, open_safetensors
from aura_jax.cli.run import run
from aura_jax.console import say
from aura_jax.errors import CheckpointError
from aura_jax.files import check_free, replacing
from aura_jax.training.networks.lpips import blueprint, read_exactly, shapes_of

# Where the convolutions of each stage stand in torchvision's `features`, among relus and poolings.
FEATURES = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))
VGG16_LAYERS = {
    f"vgg.stages.{i}.{j}": f"features.{index}"
    for i, indices in enumerate(FEATURES)
    for j, index in enumerate(indices)
}
LPIPS_LAYERS = {f"heads.{i}": f"lin{i}.model.1" for i in range(len(FEATURES))}

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def convert(
    vgg16: Annotated[Path, typer.Argument(help="State dict of torchvision's vgg16.")],
    out: Annotated[Path, typer.Argument(help="The safetensors file to write.")],
    lpips: Annotated[Path | None, typer.Option(help="State dict of lpips' heads: vgg.pth.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT.")] = False,
) -> None:
    """Convert VGG16, and the heads of LPIPS on it, for the losses "lpips" and "gan"."""
    check_free(out, overwrite=overwrite)
    source = _without_classifier(_open(vgg16))
    arrays = _converted(source, VGG16_LAYERS, "the state dict of torchvision's vgg16")
    if lpips:
        heads = _converted(_open(lpips), LPIPS_LAYERS, "the LPIPS heads of lpips' vgg.pth")
        arrays |= heads
    with replacing(out) as temporary:
        save_file(arrays, temporary)
    holds = "VGG16 and LPIPS heads" if lpips else "VGG16 without LPIPS heads"
    say(f"wrote {out} ({decimal(out.stat().st_size)}): {holds}")


def _converted(
    source: StoredCheckpoint, layers: Mapping[str, str], what: str
) -> dict[str, np.ndarray]:
    """The tensors of the layers by their names and with their axes in Flax."""
    _, state = blueprint(heads=True)
    shapes, names = {}, {}
    for name, shape in shapes_of(state).items():
        layer, _, leaf = name.rpartition(".")
        if layer in layers:
            names[name] = torch_name(f"{layers[layer]}.{leaf}")
            shapes[names[name]] = torch_shape(shape)
    arrays = read_exactly(source, shapes, what)
    return {name: hwio(arrays[theirs]) for name, theirs in names.items()}


def _without_classifier(source: StoredCheckpoint) -> StoredCheckpoint:
    """Without the layers behind the convolutions, which no loss looks at."""
    tensors = {n: t for n, t in source.tensors.items() if not n.startswith("classifier.")}
    return dataclasses.replace(source, tensors=tensors)


def _open(path: Path) -> StoredCheckpoint:
    """A state dict, safetensors or a pickle, told apart by content."""
    try:
        return open_safetensors(path)
    except CheckpointError:
        if path.is_file() and is_pickle(path):
            return _open_pickle(path)
        raise


def _open_pickle(path: Path) -> StoredCheckpoint:
    try:
        import torch  # 5 GB that safetensors do not need
    except ImportError:
        raise CheckpointError(
            f"{path}: is a pickle, which needs PyTorch: pip install torch"
        ) from None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # a broken pickle can make the unpickler raise anything
        raise CheckpointError(
            f"{path}: not a pickle that torch reads with weights_only=True; save a state dict alone"
        ) from None
    if not isinstance(content, Mapping) or not all(map(_is_tensor, content.values())):
        raise CheckpointError(
            f"{path}: not a state dict of names and tensors; save model.state_dict() alone"
        )
    tensors = {str(name): _stored(tensor) for name, tensor in content.items()}
    return StoredCheckpoint(str(path), tensors, {})


def _is_tensor(value: Any) -> bool:
    """Whether it is a tensor with values in memory, one after another."""
    import torch

    dense = isinstance(value, torch.Tensor) and value.layout == torch.strided
    return dense and value.device.type == "cpu"


def _stored(tensor: Any) -> StoredTensor:
    dtype = "F32" if tensor.is_floating_point() else str(tensor.dtype)
    return StoredTensor(tuple(tensor.shape), dtype, lambda: tensor.detach().float().numpy())


if __name__ == "__main__":
    run(app)

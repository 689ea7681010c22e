"""The command python -m convert: convert a checkpoint to Flax's layout, or to PyTorch's."""

import dataclasses
from functools import partial
from pathlib import Path

import numpy as np
from rich import box
from rich.filesize import decimal
from rich.table import Column, Table

from aura_jax import AuraEquiVAE
from aura_jax.checkpoint.describe import summarize
from aura_jax.checkpoint.hub import find_checkpoint
from aura_jax.checkpoint.loading import build, save
from aura_jax.checkpoint.prefix import autoencoder_in
from aura_jax.checkpoint.shards import files_of
from aura_jax.checkpoint.tensors import (
    StoredCheckpoint,
    StoredTensor,
    check_ending,
    open_safetensors,
)
from aura_jax.cli.options import Overwrite, Prefix
from aura_jax.cli.run import new_app, run
from aura_jax.console import console, messages, progress, say
from aura_jax.dtypes import as_dtype
from aura_jax.errors import AuraError, counted
from aura_jax.extras import needs
from aura_jax.files import check_free, replacing
from convert import options as option
from convert.source import open_source
from convert.tolerances import BF16_AGAINST_TORCH, FP32_PARITY

app = new_app(add_completion=False)


@app.command(epilog="Example: python -m convert vae_epoch_3_step_49501_bf16.pt aura.safetensors")
def convert(
    src: option.Src,
    dst: option.Dst,
    layout: option.Layout = "flax",
    param_dtype: option.ParamDtype = None,
    verify: option.Verify = False,
    allow_pickle: option.AllowPickle = False,
    key: option.Key = None,
    prefix: Prefix = None,
    overwrite: Overwrite = False,
) -> None:
    """Convert an AuraEquiVAE checkpoint between PyTorch's and Flax's layouts."""
    check_free(dst, overwrite=overwrite)
    check_ending(dst)
    cast = None if param_dtype is None else as_dtype(param_dtype, name="--param-dtype")
    if verify:
        with needs("torch"):
            import torch  # noqa: F401  fails now and not after the work
    path = find_checkpoint(src)

    def source() -> StoredCheckpoint:
        return autoencoder_in(open_source(path, allow_pickle=allow_pickle, key=key), prefix)

    vae = _read(path, source(), cast)
    with replacing(dst) as temporary:
        save(vae, temporary, layout=layout)
        del vae  # frees memory: the check below loads the written file
        written = summarize(open_safetensors(temporary))
        if verify:
            _verify(source(), temporary, cast)
    say(f"wrote {dst} ({decimal(dst.stat().st_size)}): {written}")


def _read(path: Path, source: StoredCheckpoint, param_dtype: np.dtype | None) -> AuraEquiVAE:
    """Build the model, and close the source on return, which frees its memory."""
    size = sum(file.stat().st_size for file in files_of(path))
    say(f"read {path} ({decimal(size)}): {summarize(source)}")
    with progress() as bar:
        task = bar.add_task("convert", total=len(source.tensors))

        def read(tensor: StoredTensor) -> np.ndarray:
            bar.advance(task)
            return tensor.read()

        tensors = {
            name: dataclasses.replace(tensor, read=partial(read, tensor))
            for name, tensor in source.tensors.items()
        }
        return build(dataclasses.replace(source, tensors=tensors), param_dtype=param_dtype)


def _verify(source: StoredCheckpoint, converted: Path, param_dtype: np.dtype | None) -> None:
    """Compare every stage with PyTorch, and print the errors.

    Raises:
        AuraError: if an error is over its tolerance; the message names the first such stage.
    """
    from convert.parity import verify  # imports torch, which conversion alone does not need

    with messages.status("running the PyTorch twin and the Flax model"):
        errors = verify(source, converted, param_dtype)
    columns = (Column("stage", min_width=24), "fp32", "torch fp32", "bf16", "torch bf16", "")
    table = Table(*columns, padding=0, title="relative L2 error against float64", box=box.SIMPLE)
    for error in errors:
        measured = (error.fp32, error.torch_fp32, error.bf16, error.torch_bf16)
        verdict = "ok" if error.passes else "over"
        table.add_row(error.stage, *(f"{value:.2e}" for value in measured), verdict)
    console.print(table)
    over = [error.stage for error in errors if not error.passes]
    limits = f"fp32 <= {FP32_PARITY:.0e}, bf16 <= {BF16_AGAINST_TORCH} times PyTorch's own"
    if over:
        stages = counted(len(over), "stage")
        raise AuraError(f"{stages} over tolerance, of which {over[0]} runs first ({limits})")
    say(f"all {len(errors)} stages within tolerance ({limits})")


if __name__ == "__main__":
    run(app)

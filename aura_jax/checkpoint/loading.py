"""Strict loading and saving: a model is built from a file that fits it exactly, or not at all."""

from collections.abc import Mapping
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from safetensors.numpy import save_file

from aura_jax.checkpoint.hub import find_checkpoint
from aura_jax.checkpoint.names import LAYOUTS, Layout, hwio, layout_of, oihw, torch_name, unwrapped
from aura_jax.checkpoint.tensors import (
    FLOAT_TYPES,
    StoredCheckpoint,
    StoredTensor,
    open_safetensors,
)
from aura_jax.checkpoint.validation import blueprint, checked_config, dotted, parameters, raise_all
from aura_jax.config import AuraConfig
from aura_jax.dtypes import as_dtype, default_compute_dtype
from aura_jax.errors import AuraError
from aura_jax.files import replacing
from aura_jax.model.autoencoder import AuraEquiVAE

NOT_FINITE = "not finite: {} has NaN or infinite values"


def load(
    path_or_repo_id: str | Path,
    *,
    config: AuraConfig | None = None,
    dtype: DTypeLike | None = None,
    param_dtype: DTypeLike | None = None,
) -> AuraEquiVAE:
    """Loads a checkpoint in PyTorch's or Flax's layout, told apart by its content.

    Args:
        path_or_repo_id: "small", the checkpoint that comes with the package; a safetensors file of
            any name; or a repository of the Hugging Face hub such as "fal/AuraEquiVAE"
            ("owner/name/file" names one file in it).
        config: the sizes that the file must have; by default they are read off its tensors.
        dtype: the type to compute in; by default bfloat16 on GPU and TPU, float32 on CPU.
        param_dtype: the type to keep parameters in; by default as stored.

    Raises:
        CheckpointError: if the file cannot be had or read, or its tensors are not exactly those of
            an AuraEquiVAE; every missing, unexpected, duplicate, misshaped or non-finite one is
            named.
        AuraError: if a type is not bfloat16, float16 or float32.
    """
    stored = open_safetensors(find_checkpoint(path_or_repo_id))
    return build(stored, config=config, dtype=dtype, param_dtype=param_dtype)


def build(
    stored: StoredCheckpoint,
    *,
    config: AuraConfig | None = None,
    dtype: DTypeLike | None = None,
    param_dtype: DTypeLike | None = None,
) -> AuraEquiVAE:
    """The model of an opened checkpoint; arguments and errors as for `load`."""
    cast = None if param_dtype is None else as_dtype(param_dtype, name="param_dtype")
    compute = default_compute_dtype() if dtype is None else as_dtype(dtype)
    config, problems = checked_config(stored, config)
    tensors, allowed = unwrapped(stored), [*FLOAT_TYPES, *([] if cast is None else ["F64"])]
    problems += _odd_types(tensors, allowed)
    if problems:
        raise_all(stored.source, [*problems, *_not_finite(tensors, allowed)])
    graph, state = blueprint(config, compute, cast or _common_type(tensors))
    torch = layout_of(tensors) == "torch"
    broken, filled = [], []
    for path, _ in nnx.to_flat_state(state):
        name = torch_name(dotted(path)) if torch else dotted(path)
        array = tensors[name].read()
        if cast is not None:
            with np.errstate(over="ignore"):  # what overflows is infinite, and named below
                array = array.astype(cast)
        if not np.isfinite(array).all():
            broken.append(NOT_FINITE.format(name))
        filled.append((path, nnx.Param(jnp.asarray(hwio(array) if torch else array))))
    raise_all(stored.source, sorted(broken))
    return nnx.merge(graph, nnx.from_flat_state(filled))


def save(vae: AuraEquiVAE, path: str | Path, *, layout: Layout = "flax") -> None:
    """Writes a model as safetensors, with its config in the metadata; replaces the file whole.

    Args:
        vae: the model; parameters are written in the type they have.
        path: the file to write.
        layout: "flax" (kernel, scale; HWIO) or "torch" (weight; OIHW; the reference's names).

    Raises:
        AuraError: if the layout is unknown or the file cannot be written.
    """
    if layout not in LAYOUTS:
        raise AuraError(f"layout {layout!r}: expected one of {', '.join(LAYOUTS)}")
    params = parameters(nnx.state(vae))
    arrays = {name: np.asarray(param[...]) for name, param in params.items()}
    if layout == "torch":
        arrays = {torch_name(name): oihw(array) for name, array in arrays.items()}
    # One entry only: safetensors orders several at random, and equal models should be equal files.
    with replacing(path) as temporary:
        save_file(arrays, temporary, {"config": vae.config.to_json()})


def _common_type(tensors: Mapping[str, StoredTensor]) -> np.dtype:
    """What the layers say they store; each parameter of a file that mixes types keeps its own."""
    return jnp.result_type(*(FLOAT_TYPES[tensor.dtype] for tensor in tensors.values()))


def _odd_types(tensors: Mapping[str, StoredTensor], allowed: list[str]) -> list[str]:
    hint = "" if "F64" in allowed else " (float64 is taken with a param_dtype to round it to)"
    return [
        f"type: {name} is {tensor.dtype}, expected {', '.join(allowed)}{hint}"
        for name, tensor in sorted(tensors.items())
        if tensor.dtype not in allowed
    ]


def _not_finite(tensors: Mapping[str, StoredTensor], allowed: list[str]) -> list[str]:
    readable = {name: t for name, t in sorted(tensors.items()) if t.dtype in allowed}
    broken = (name for name, t in readable.items() if not np.isfinite(t.read()).all())
    return [NOT_FINITE.format(name) for name in broken]

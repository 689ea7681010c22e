"""Load and save models strictly: a file that does not fit its model exactly is not loaded."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from safetensors.numpy import save_file

from aura_jax.checkpoint.description import description_of
from aura_jax.checkpoint.hub import find_checkpoint
from aura_jax.checkpoint.infer_config import find_config, find_latent_stats
from aura_jax.checkpoint.names import (
    LAYOUTS,
    Layout,
    flax_name,
    hwio,
    in_layout,
    layout_of,
    oihw,
    torch_name,
)
from aura_jax.checkpoint.prefix import autoencoder_in
from aura_jax.checkpoint.shards import open_checkpoint
from aura_jax.checkpoint.tensors import (
    FLOAT_TYPES,
    StoredCheckpoint,
    StoredTensor,
    check_ending,
)
from aura_jax.checkpoint.validation import read_exactly, unwrapped
from aura_jax.config import AuraConfig
from aura_jax.dtypes import FLOAT32, as_dtype, default_compute_dtype
from aura_jax.errors import AuraError
from aura_jax.files import replacing
from aura_jax.model.autoencoder import AuraEquiVAE
from aura_jax.model.parameters import blueprint, merge, parameters, shapes_of

NOUN = "a usable AuraEquiVAE checkpoint"


def load(
    path_or_repo_id: str | Path,
    *,
    config: AuraConfig | None = None,
    dtype: DTypeLike | None = None,
    param_dtype: DTypeLike | None = None,
    prefix: str | None = None,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    token: str | bool | None = None,
) -> AuraEquiVAE:
    """Load a checkpoint; its layout, PyTorch's or Flax's, is recognized by its content.

    Args:
        path_or_repo_id: "small", the checkpoint that comes with the package (`list_checkpoints` has
            all known names); a safetensors file of any name; a folder with one checkpoint, in one
            file or in several with an index; or a repository of the Hugging Face hub such as
            "fal/AuraEquiVAE" ("owner/name/file" names one file in it). Without a network the hub
            client's cache is used.
        config: the sizes that the file must have; by default those in its metadata or in
            config.json beside the only checkpoint of a folder or, without both, those that the
            shapes of its tensors imply.
        dtype: the dtype to compute in; by default bfloat16 on GPU and TPU, float32 on CPU.
        param_dtype: the dtype to keep parameters in; by default as stored.
        prefix: the part of the names before encoder and decoder, such as "first_stage_model". Give
            it if the file holds other networks too, which are then ignored. A prefix that all names
            have is recognized without it.
        revision: a branch, tag or commit of the repository.
        cache_dir: the folder for downloads, by default that of the hub's client.
        token: an access token for the hub, or whether to use the stored one.

    Raises:
        CheckpointError: if the file cannot be found or read, or its tensors are not exactly those
            of an AuraEquiVAE. One error lists duplicate, missing, unexpected, misshaped and
            non-finite tensors, and tensors of other dtypes: the first twenty of each kind, and the
            number of others.
        AuraError: if `dtype` or `param_dtype` is not bfloat16, float16 or float32.
    """
    path = find_checkpoint(path_or_repo_id, revision=revision, cache_dir=cache_dir, token=token)
    stored = autoencoder_in(open_checkpoint(path), prefix)
    return build(stored, config=config, dtype=dtype, param_dtype=param_dtype)


def build(
    stored: StoredCheckpoint,
    *,
    config: AuraConfig | None = None,
    dtype: DTypeLike | None = None,
    param_dtype: DTypeLike | None = None,
) -> AuraEquiVAE:
    """Build the model of an opened checkpoint, which must hold nothing else, as `load` does."""
    compute = default_compute_dtype() if dtype is None else as_dtype(dtype)
    cast = None if param_dtype is None else as_dtype(param_dtype, name="param_dtype")
    config, problems = find_config(stored, config)
    latent_stats, contradiction = find_latent_stats(stored)
    tensors = unwrapped(stored)
    layout = layout_of(tensors)
    model = blueprint(config, compute, cast or _stored_type(tensors))
    expected = in_layout(shapes_of(model), layout)
    arrays = read_exactly(stored, expected, NOUN, dtype=cast, problems=[*problems, *contradiction])
    # jnp.asarray would compile a program for each shape (jax 0.12).
    params = {n: jax.device_put(a) for n, a in _in_flax(arrays, layout)}
    vae = merge(nnx.graphdef(model), params)
    vae.latent_stats = latent_stats
    return vae


def save(vae: AuraEquiVAE, path: str | Path, *, layout: Layout = "flax") -> None:
    """Write a model as safetensors, with its config and latent statistics, whole or not at all.

    Args:
        vae: the model; parameters are written in the dtype they have.
        path: the file to write.
        layout: "flax" (kernel, scale; HWIO) or "torch" (weight; OIHW; the reference's names).

    Raises:
        AuraError: if the layout is unknown, `vae`, its `latent_stats` or `path` has another type,
            or the file cannot be written.
    """
    if not isinstance(vae, AuraEquiVAE) or not isinstance(path, str | Path):
        types = f"a {type(vae).__name__} and a {type(path).__name__}"
        raise AuraError(f"save(vae, path): expected an AuraEquiVAE and a path, got {types}")
    check_ending(Path(path))
    if layout not in LAYOUTS:
        raise AuraError(f"layout {layout!r}: expected one of {', '.join(LAYOUTS)}")
    description = description_of(vae).to_json()
    params = parameters(nnx.state(vae))
    arrays = {name: np.asarray(param[...]) for name, param in params.items()}
    if layout == "torch":
        arrays = {torch_name(name): oihw(array) for name, array in arrays.items()}
    # One entry only: safetensors 0.8 writes several in random order, and equal models should give
    # equal files.
    with replacing(path) as temporary:
        save_file(arrays, temporary, {"config": description})


def _stored_type(tensors: Mapping[str, StoredTensor]) -> np.dtype:
    """Return the param_dtype to give the layers; parameters of a mixed file keep their own."""
    types = {FLOAT_TYPES[t.dtype] for t in tensors.values() if t.dtype in FLOAT_TYPES}
    return jnp.result_type(*types) if types else FLOAT32


def _in_flax(
    arrays: Iterator[tuple[str, np.ndarray]], layout: Layout
) -> Iterator[tuple[str, np.ndarray]]:
    """Translate names and axes from a file's layout."""
    for name, array in arrays:
        yield (name, array) if layout == "flax" else (flax_name(name, array.ndim), hwio(array))

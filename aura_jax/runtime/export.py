"""Export a model as StableHLO, which runs without this package."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jax
import jax.export
import numpy as np
from flax import nnx
from jax import ShapeDtypeStruct
from jaxtyping import Array

import aura_jax
from aura_jax.checkpoint.description import description_of
from aura_jax.checkpoint.loading import save
from aura_jax.config import AuraConfig
from aura_jax.dtypes import FLOAT32, as_dtype
from aura_jax.errors import ArrayError, AuraError, listed
from aura_jax.files import check_folder, check_own, replacing
from aura_jax.model.autoencoder import AuraEquiVAE
from aura_jax.model.chains import clamp_latents
from aura_jax.model.layers import convolve_in_float32
from aura_jax.model.parameters import Params, fingerprint, merge, split
from aura_jax.runtime.choices import DEFAULT_PLATFORMS, PLATFORMS
from aura_jax.runtime.networks import PARTS, Part
from aura_jax.runtime.plan import Plan, ReplaceConv, with_dtype
from aura_jax.runtime.rewrite import abstract_rewritten

type Function = Callable[[Params, Array], Array]

NETWORKS: dict[Part, str] = {"encode": "encoder.", "decode": "decoder."}  # starts of weights' names
METADATA, LOADER, WEIGHTS, ENDING = "export.json", "loader.py", "model.safetensors", ".jaxexport"


def export(
    vae: AuraEquiVAE,
    folder: str | Path,
    *,
    platforms: Sequence[str] = DEFAULT_PLATFORMS,
    shapes: Sequence[Sequence[int]] = ((256, 256),),
    overwrite: bool = False,
) -> None:
    """Write a model as programs in StableHLO that need neither this package nor Flax.

    The folder has two programs for each size, such as `encode-256x256.jaxexport` and
    `decode-256x256.jaxexport`, which take any number of images; the weights, `model.safetensors`,
    which are an argument of the programs; `loader.py`, which runs them with JAX and flatbuffers
    alone; and `export.json`, which describes them. `aura_jax.load` reads the folder too.

    The programs compute what `aura_jax.encode` and `aura_jax.decode` do, in the model's dtype and
    at JAX's precision "highest", without the kernels of `Codec`.

    Args:
        vae: the model; `aura_jax.load` chooses the dtype to compute in.
        folder: the folder to write, which may be missing.
        platforms: the platforms that the programs run on: cpu, cuda, rocm, tpu. None of them need
            be here.
        shapes: sizes of images, (height, width), each a multiple of the model's downsampling.
        overwrite: whether an export in the folder may be replaced.

    Raises:
        ArrayError: if a size does not fit the model.
        AuraError: if `vae` or `folder` has another type, a platform is unknown, or the folder
            cannot be written, holds other files, or holds an export and `overwrite` is false.
    """
    if not isinstance(vae, AuraEquiVAE) or not isinstance(folder, str | Path):
        types = f"a {type(vae).__name__} and a {type(folder).__name__}"
        raise AuraError(f"export(vae, folder): expected an AuraEquiVAE and a path, got {types}")
    description_of(vae)  # which refuses what `save` would refuse after the work
    folder = Path(folder)
    check_export_folder(folder, overwrite=overwrite)
    _check_platforms(platforms)
    _check_sizes(shapes, vae.config)
    programs = {
        f"{part}-{height}x{width}": exported(vae, part, (int(height), int(width)), platforms)
        for height, width in dict.fromkeys(map(tuple, shapes))
        for part in PARTS
    }
    _write(folder, vae, programs)


def check_export_folder(folder: Path, *, overwrite: bool) -> None:
    """Check that an export can be written to a folder, before the work.

    Raises:
        AuraError: if it cannot, holds other files, or holds an export and `overwrite` is false.
    """
    check_folder(folder)
    if folder.exists():
        check_own(folder, folder / METADATA, "export")
    if (folder / METADATA).exists() and not overwrite:
        raise AuraError(f"{folder}: holds an export already; give another folder or --overwrite")


def _check_platforms(platforms: Sequence[str]) -> None:
    if not platforms or isinstance(platforms, str):
        raise AuraError(f'platforms {platforms!r}: expected names such as ("cpu", "cuda")')
    for platform in platforms:
        if platform not in PLATFORMS:
            raise AuraError(f"platform {platform!r}: expected one of {listed(PLATFORMS)}")


def _check_sizes(shapes: Sequence[Sequence[int]], config: AuraConfig) -> None:
    multiple = config.downsampling
    if not isinstance(shapes, Sequence) or not shapes:
        raise ArrayError(f"shapes {shapes!r}: expected sizes of images, such as [(256, 256)]")
    for size in shapes:
        sides = [*size] if isinstance(size, Sequence) else []
        if len(sides) != 2 or not all(
            isinstance(side, int | np.integer) and side >= multiple and side % multiple == 0
            for side in sides
        ):
            raise ArrayError(
                f"size {size}: expected (height, width) of images in multiples of {multiple}"
            )


def exported(
    vae: AuraEquiVAE, part: Part, size: tuple[int, int], platforms: Sequence[str]
) -> jax.export.Exported:
    """Trace and lower a part of the model for images of a size, in batches of any size."""
    config, dtype = vae.config, as_dtype(vae.encoder.conv_in.dtype or FLOAT32)
    weights = {
        name: ShapeDtypeStruct(weight.shape, weight.dtype)
        for name, weight in split(vae)[1].items()
        if name.startswith(NETWORKS[part])
    }
    (batch,) = jax.export.symbolic_shape("batch")
    height, width = size
    if part == "encode":
        x = ShapeDtypeStruct((batch, height, width, config.in_channels), FLOAT32)
    else:
        scale = config.downsampling
        x = ShapeDtypeStruct((batch, height // scale, width // scale, config.z_channels), dtype)
    function = jax.jit(_function(config, dtype, part))
    return jax.export.export(function, platforms=[*dict.fromkeys(platforms)])(weights, x)


def _function(config: AuraConfig, dtype: np.dtype, part: Part) -> Function:
    """Return `encode` or `decode` as a function of its network's weights, on every platform.

    In half precision a CPU rounds as `aura_jax.model.layers.Conv` does there.
    """
    plain = _with_convolutions(config, dtype, part, with_dtype)
    if dtype == FLOAT32:
        return plain
    on_cpu = _with_convolutions(config, dtype, part, _with_float32_sums)
    return lambda weights, x: jax.lax.platform_dependent(weights, x, cpu=on_cpu, default=plain)


def _with_convolutions(
    config: AuraConfig, dtype: np.dtype, part: Part, replace: ReplaceConv
) -> Function:
    model = abstract_rewritten(config, dtype, Plan(replace))
    graph = nnx.graphdef(model.encoder if part == "encode" else model.decoder)

    def run(weights: Params, x: Array) -> Array:
        own = {name.removeprefix(NETWORKS[part]): weight for name, weight in weights.items()}
        with jax.default_matmul_precision("highest"):
            y = merge(graph, own)(x)
        return clamp_latents(y) if part == "encode" else y

    return run


def _with_float32_sums(conv: nnx.Conv, dtype: np.dtype) -> nnx.Conv:
    conv = with_dtype(conv, dtype)
    conv.conv_general_dilated = convolve_in_float32
    return conv


def _write(folder: Path, vae: AuraEquiVAE, programs: dict[str, jax.export.Exported]) -> None:
    """Write all files or none, and remove the programs of an export that is replaced."""
    contents = {f"{name}{ENDING}": bytes(each.serialize()) for name, each in programs.items()}
    about = json.dumps(_metadata(vae, programs), indent=1)
    loader = Path(__file__).with_name("export_loader.py").read_bytes()
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        for name, content in {**contents, LOADER: loader, METADATA: about.encode()}.items():
            stack.enter_context(replacing(folder / name)).write_bytes(content)
        save(vae, folder / WEIGHTS)
    for old in folder.glob(f"*{ENDING}"):
        if old.name not in contents:
            old.unlink()


def _metadata(vae: AuraEquiVAE, programs: dict[str, jax.export.Exported]) -> dict[str, Any]:
    """Describe an export in values of JSON."""
    first = next(iter(programs.values()))
    return {
        "programs": {
            name: {"input": _array(each.in_avals[-1]), "output": _array(each.out_avals[0])}
            for name, each in programs.items()
        },
        "platforms": [*first.platforms],
        "config": dataclasses.asdict(vae.config),
        "fingerprint": fingerprint(vae),
        "aura_jax": aura_jax.__version__,
        "jax": jax.__version__,
        "calling_convention_version": first.calling_convention_version,
    }


def _array(aval: Any) -> dict[str, Any]:
    shape = [size if isinstance(size, int) else str(size) for size in aval.shape]
    return {"shape": shape, "dtype": str(aval.dtype)}

"""Do a file's tensors make up a model? Its config from names and shapes, and all that is wrong."""

import functools
from collections.abc import Iterator, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from aura_jax.autoencoder import AuraEquiVAE
from aura_jax.config import AuraConfig
from aura_jax.errors import CheckpointError, ConfigError
from aura_jax.layout import Shape, layout_of, torch_name, torch_shape
from aura_jax.storage import StoredCheckpoint, StoredTensor

type Shapes = Mapping[str, Shape]


@functools.lru_cache(maxsize=8)
def blueprint(
    config: AuraConfig, dtype: np.dtype, param_dtype: np.dtype
) -> tuple[nnx.GraphDef[AuraEquiVAE], nnx.State]:
    """The structure of a model and the shapes of its parameters; nothing is initialised."""
    return nnx.split(
        nnx.eval_shape(
            lambda: AuraEquiVAE(config, dtype=dtype, param_dtype=param_dtype, rngs=nnx.Rngs(0))
        )
    )


def dotted(path: tuple[Any, ...]) -> str:
    """The Flax name of a parameter, such as encoder.down.0.block.0.conv1.kernel."""
    return ".".join(map(str, path))


def parameters(state: nnx.State) -> dict[str, nnx.Variable]:
    """The parameters of a model by their Flax names."""
    return {dotted(path): param for path, param in nnx.to_flat_state(state)}


def checked_config(
    stored: StoredCheckpoint, tensors: Mapping[str, StoredTensor], given: AuraConfig | None
) -> AuraConfig:
    """The config of a checkpoint whose tensors are exactly those of a model, in either layout.

    Args:
        stored: the checkpoint, for its name and metadata.
        tensors: its tensors, free of wrappers' prefixes.
        given: the config it must have, or None.

    Raises:
        CheckpointError: that lists every missing, unexpected and misshaped tensor as the file
            spells it, and a config given or in the metadata that the tensors contradict.
    """
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    try:
        inferred = infer_config(shapes)
        written = stored.metadata.get("config")
        declared = AuraConfig.from_json(written) if written is not None else None
    except ConfigError as error:
        raise CheckpointError(f"{stored.source}: {error}") from None
    # What the metadata says is held against the tensors, never built: it could say anything.
    config = given or inferred
    problems = sorted(_misfits(config, shapes))
    if declared not in (None, config):
        problems.insert(0, f"config: expected {config}, the file's metadata says {declared}")
    if inferred != config:
        problems.insert(0, f"config: expected {config}, names and shapes say {inferred}")
    raise_all(stored.source, problems)
    return config


def infer_config(shapes: Shapes) -> AuraConfig:
    """The config that names and shapes of either layout speak of.

    What no tensor tells stays at its default: the comparison with the config's own names and
    shapes then says what is missing.

    Raises:
        ConfigError: if no model has such sizes.
    """
    conv_in, conv_out = (_channels(shapes, f"encoder.{end}") for end in ("conv_in", "conv_out"))
    image_out = _channels(shapes, "decoder.conv_out")
    levels = list(_run(shapes, "encoder.down.{}.block.0.conv1"))
    blocks = list(_run(shapes, "encoder.down.0.block.{}.conv1"))
    told = {
        "ch": conv_in and conv_in[1],
        "ch_mult": conv_in and tuple(level[1] // conv_in[1] for level in levels),
        "num_res_blocks": len(blocks),
        "z_channels": conv_out and conv_out[1],
        "in_channels": conv_in and conv_in[0],
        "out_channels": image_out and image_out[1],
    }
    return AuraConfig(**{field: value for field, value in told.items() if value})


def raise_all(source: str, problems: list[str]) -> None:
    """Raises one CheckpointError that lists all problems; none, if there are none."""
    if problems:
        lines = "\n  ".join(problems)
        raise CheckpointError(f"{source}: not a usable AuraEquiVAE checkpoint\n  {lines}")


def _channels(shapes: Shapes, conv: str) -> tuple[int, int] | None:
    """Input and output channels of a convolution; None if it is missing or no convolution."""
    kernel, weight = shapes.get(f"{conv}.kernel", ()), shapes.get(f"{conv}.weight", ())
    if len(kernel) == 4 and min(kernel) > 0:
        return kernel[2], kernel[3]
    if len(weight) == 4 and min(weight) > 0:
        return weight[1], weight[0]
    return None


def _run(shapes: Shapes, pattern: str) -> Iterator[tuple[int, int]]:
    """Channels of pattern.format(0), pattern.format(1), … up to the first that is missing."""
    index = 0
    while (channels := _channels(shapes, pattern.format(index))) is not None:
        yield channels
        index += 1


def _misfits(config: AuraConfig, shapes: Shapes) -> Iterator[str]:
    _, state = blueprint(config, jnp.dtype(jnp.float32), jnp.dtype(jnp.float32))
    expected = {name: tuple(param.shape) for name, param in parameters(state).items()}
    if layout_of(shapes) == "torch":
        expected = {torch_name(name): torch_shape(shape) for name, shape in expected.items()}
    for name in expected.keys() - shapes.keys():
        yield f"missing: {name} {expected[name]}"
    for name in shapes.keys() - expected.keys():
        yield f"unexpected: {name} {shapes[name]}"
    for name in shapes.keys() & expected.keys():
        if shapes[name] != expected[name]:
            yield f"misshaped: {name} is {shapes[name]}, expected {expected[name]}"

"""Do a file's tensors make up a model? Its config from names and shapes, and all that is wrong."""

import functools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from aura_jax.checkpoint.names import (
    Shape,
    layout_of,
    torch_name,
    torch_shape,
    unwrapped,
    without_wrappers,
)
from aura_jax.checkpoint.tensors import StoredCheckpoint
from aura_jax.config import AuraConfig
from aura_jax.errors import CheckpointError, ConfigError
from aura_jax.model.autoencoder import AuraEquiVAE

type Shapes = Mapping[str, Shape]


@functools.lru_cache(maxsize=8)
def blueprint(
    config: AuraConfig, dtype: np.dtype, param_dtype: np.dtype
) -> tuple[nnx.GraphDef[AuraEquiVAE], nnx.State]:
    """The structure of a model and the shapes of its parameters; nothing is initialized."""
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
    stored: StoredCheckpoint, given: AuraConfig | None = None
) -> tuple[AuraConfig, list[str]]:
    """The config of a checkpoint, and all that keeps its names and shapes from making up a model.

    Args:
        stored: the checkpoint, in either layout.
        given: the config it must have, or None to go by its names and shapes.

    Returns:
        The config, and a line for every duplicate, missing, unexpected and misshaped tensor, and
        for a config given or in the metadata that the tensors contradict.

    Raises:
        CheckpointError: if no model has such sizes, or the metadata's config is none.
    """
    shapes = {name: tensor.shape for name, tensor in unwrapped(stored).items()}
    try:
        inferred = infer_config(shapes)
        written = stored.metadata.get("config")
        declared = AuraConfig.from_json(written) if written is not None else None
    except ConfigError as error:
        raise CheckpointError(f"{stored.source}: {error}") from None
    # What the metadata says is held against the tensors, never built: it could say anything.
    config, problems = given or inferred, []
    if inferred != config:
        problems.append(f"config: expected {config}, names and shapes say {inferred}")
    if declared not in (None, config):
        problems.append(f"config: expected {config}, the file's metadata says {declared}")
    return config, problems + sorted((*_repeats(stored), *_misfits(config, shapes)))


def infer_config(shapes: Shapes) -> AuraConfig:
    """The config that names and shapes of either layout speak of.

    Each size is asked of several tensors, so that one that is missing or misshaped is outvoted and
    can be named; a size that none tells stays at its default.

    Raises:
        ConfigError: if no model has such sizes.
    """
    first, conv_in = "encoder.down.0.block", _channels(shapes, "encoder.conv_in")
    ch = _vote(conv_in[1:], _length(shapes, "encoder.conv_in.bias", f"{first}.0.norm1.bias"))
    widths = list(_run(shapes, "encoder.down.{}.block.0"))
    told = {
        "ch": ch,
        "ch_mult": ch and tuple(width // ch for width in widths),
        "num_res_blocks": len(list(_run(shapes, first + ".{}"))),
        "z_channels": _end(shapes, "encoder.conv_out", AuraConfig.z_channels),
        "in_channels": _vote(conv_in[:1]),
        "out_channels": _end(shapes, "decoder.conv_out", AuraConfig.out_channels),
    }
    return AuraConfig(**{field: value for field, value in told.items() if value})


def raise_all(source: str, problems: Sequence[str]) -> None:
    """Raises one CheckpointError that lists all problems; none, if there are none."""
    if problems:
        lines = "\n  ".join(problems)
        raise CheckpointError(f"{source}: not a usable AuraEquiVAE checkpoint\n  {lines}")


def _vote(*witnesses: Sequence[int]) -> int | None:
    """What most witnesses say; the first of them, if they are at odds."""
    votes = Counter(size for sizes in witnesses for size in sizes)
    return max(votes, key=votes.__getitem__, default=None)


def _length(shapes: Shapes, *vectors: str) -> list[int]:
    """The lengths of those vectors that are there."""
    found = (shapes.get(vector, ()) for vector in vectors)
    return [shape[0] for shape in found if len(shape) == 1 and shape[0] > 0]


def _channels(shapes: Shapes, conv: str) -> tuple[int, ...]:
    """Input and output channels of a convolution; nothing if it is missing or misshaped."""
    kernel, weight = shapes.get(f"{conv}.kernel", ()), shapes.get(f"{conv}.weight", ())
    if len(kernel) == 4 and min(kernel) > 0:
        return kernel[2:]
    if len(weight) == 4 and min(weight) > 0:
        return weight[1::-1]
    return ()


def _end(shapes: Shapes, conv: str, usual: int) -> int | None:
    """Output channels of a network; where its kernel and bias are at odds, the usual number."""
    return _vote(_channels(shapes, conv)[1:], _length(shapes, f"{conv}.bias"), [usual])


def _run(shapes: Shapes, pattern: str) -> Iterator[int]:
    """Widths of the blocks pattern.format(0), pattern.format(1), … up to the first missing one."""
    for index in range(len(shapes)):
        block = pattern.format(index)
        biases = (f"{block}.{layer}.bias" for layer in ("conv1", "norm2", "conv2"))
        width = _vote(_length(shapes, *biases))
        if width is None:
            return
        yield width


def _repeats(stored: StoredCheckpoint) -> Iterator[str]:
    plain = {name: without_wrappers(name) for name in stored.tensors}
    counts = Counter(plain.values())
    for name in plain:
        if counts[plain[name]] > 1:
            yield f"duplicate: {name}"


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

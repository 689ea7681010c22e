"""Find the sizes of a checkpoint's model, from its metadata or the shapes of a few tensors."""

import json
from collections.abc import Iterator
from dataclasses import fields
from itertools import islice

from aura_jax.checkpoint.tensors import StoredCheckpoint
from aura_jax.checkpoint.validation import Shapes, unwrapped
from aura_jax.config import MAX_BLOCKS, MAX_LEVELS, AuraConfig
from aura_jax.errors import CheckpointError, ConfigError, printable


def find_config(
    stored: StoredCheckpoint, given: AuraConfig | None = None
) -> tuple[AuraConfig, list[str]]:
    """Return the config to check a file against, and everything in the file that contradicts it.

    Args:
        stored: the checkpoint, in either layout.
        given: the config that it must have. By default it is the one in the metadata. If that has
            none, or another program's, it is the one that the shapes imply.

    Returns:
        The config, and one line for each source (metadata, shapes) that contradicts it.

    Raises:
        CheckpointError: if neither metadata nor shapes give the sizes.
    """
    problems, reason = [], "neither metadata nor tensors give them"
    written, declared, inferred = stored.metadata.get("config"), None, None
    try:
        declared = None if written is None else AuraConfig.from_json(written)
    except ConfigError as error:
        if _is_ours(written):
            problems.append(f"config: the file's metadata is {printable(str(error))}")
        else:
            reason += f", and its metadata is {printable(str(error))}"
    try:
        inferred = config_from_shapes({n: t.shape for n, t in unwrapped(stored).items()})
    except ConfigError as error:
        reason = f"no model has the shapes of its tensors: {error}"
    config = given or declared or inferred
    if config is None:
        line = (
            f"config: the sizes of the model are unknown ({reason}); if the file holds such a "
            "model, give config= to aura_jax.load"
        )
        raise CheckpointError("\n  ".join((f"{stored.source}:", *problems, line)))
    for source, other in (("the file's metadata says", declared), ("its shapes say", inferred)):
        if other not in (None, config):
            problems.append(f"config: expected {config}, {source} {other}")
    return config, problems


def _is_ours(text: str | None) -> bool:
    """Return whether metadata has sizes of an AuraConfig alone; other programs have configs too."""
    try:
        content = json.loads(text or "")
    except (ValueError, RecursionError):
        return False
    known = {field.name for field in fields(AuraConfig)}
    return isinstance(content, dict) and bool(content) and content.keys() <= known


def config_from_shapes(shapes: Shapes) -> AuraConfig | None:
    """Derive the sizes of a model from the shapes of its tensors, in either layout.

    Two tensors give each size, so that either of them can be missing.

    Returns:
        The config; None if the tensors that give its sizes are missing.

    Raises:
        ConfigError: if no model has such sizes.
    """
    first = "encoder.down.0.block"
    ch = _length(shapes, "encoder.conv_in.bias", f"{first}.0.norm1.bias")
    # Read one more than a config can have, so that AuraConfig refuses it.
    widths = [*islice(_widths(shapes, "encoder.down.{}.block.0"), MAX_LEVELS + 1)]
    if not ch or not widths:
        return None
    sizes = {
        "z_channels": _channels(shapes, "encoder.conv_out", 1),
        "in_channels": _channels(shapes, "encoder.conv_in", 0),
        "out_channels": _channels(shapes, "decoder.conv_out", 1),
    }
    return AuraConfig(
        ch=ch,
        ch_mult=tuple(width // ch for width in widths),
        num_res_blocks=len([*islice(_widths(shapes, first + ".{}"), MAX_BLOCKS + 1)]),
        **{name: size for name, size in sizes.items() if size},
    )


def _length(shapes: Shapes, *vectors: str) -> int:
    """Return the length of the first of these vectors that exists; 0 if none does."""
    found = (shapes.get(vector, ()) for vector in vectors)
    return next((shape[0] for shape in found if len(shape) == 1), 0)


def _widths(shapes: Shapes, pattern: str) -> Iterator[int]:
    """Yield the widths of the blocks pattern.format(0), pattern.format(1), … up to a gap."""
    for index in range(len(shapes)):
        block = pattern.format(index)
        width = _length(shapes, f"{block}.conv1.bias", f"{block}.norm2.bias")
        if not width:
            return
        yield width


def _channels(shapes: Shapes, conv: str, side: int) -> int:
    """Return the input (side 0) or output (side 1) channels of a convolution; 0 if unknown."""
    length = _length(shapes, f"{conv}.bias") if side else 0
    kernel, weight = shapes.get(f"{conv}.kernel", ()), shapes.get(f"{conv}.weight", ())
    if length:
        return length
    if len(kernel) == 4:
        return kernel[2 + side]
    return weight[1 - side] if len(weight) == 4 else 0

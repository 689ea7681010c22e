"""Find the sizes of a checkpoint's model, from what describes it or the shapes of a few tensors."""

from collections.abc import Iterator
from itertools import islice

from aura_jax.checkpoint.description import Description, is_description
from aura_jax.checkpoint.tensors import CONFIG_FILE, StoredCheckpoint
from aura_jax.checkpoint.validation import Shapes, unwrapped
from aura_jax.config import MAX_BLOCKS, MAX_LEVELS, AuraConfig
from aura_jax.errors import CheckpointError, ConfigError, printable
from aura_jax.latent_stats import LatentStats


def find_config(
    stored: StoredCheckpoint, given: AuraConfig | None = None
) -> tuple[AuraConfig, list[str]]:
    """Return the config to check a file against, and everything in the file that contradicts it.

    Args:
        stored: the checkpoint, in either layout.
        given: the config that it must have. By default it is the one in the metadata, or in
            config.json. If they have none, or another program's, it is the one that the shapes
            imply.

    Returns:
        The config, and one line for each source (metadata, config.json, shapes) that contradicts
        it.

    Raises:
        CheckpointError: if neither metadata, config.json nor shapes give the sizes.
    """
    declared, problems, reasons = _declared(stored)
    reasons = ["neither metadata nor tensors give them", *reasons]
    inferred = None
    try:
        inferred = config_from_shapes({n: t.shape for n, t in unwrapped(stored).items()})
    except ConfigError as error:
        reasons = [f"no model has the shapes of its tensors: {error}"]
    says = [*((f"{source} says", each.config) for source, each in declared.items())]
    says += [("its shapes say", inferred)] if inferred else []
    config = given or next((said for _, said in says), None)
    if config is None:
        line = (
            f"config: the sizes of the model are unknown ({', and '.join(reasons)}); if the file "
            "holds such a model, give config= to aura_jax.load"
        )
        raise CheckpointError("\n  ".join((f"{stored.source}:", *problems, line)))
    problems += [f"config: expected {config}, {s} {said}" for s, said in says if said != config]
    return config, problems


def find_latent_stats(stored: StoredCheckpoint) -> tuple[LatentStats | None, list[str]]:
    """Return the latent statistics in the metadata or in config.json; None if there are none.

    Returns:
        The statistics, and a line if both have some that differ.
    """
    found = {each.latent_stats for each in _declared(stored)[0].values()} - {None}
    if len(found) > 1:
        line = f"config: {CONFIG_FILE} has other latent_stats than the file's metadata; delete one"
        return None, [line]
    return next(iter(found), None), []


def _declared(stored: StoredCheckpoint) -> tuple[dict[str, Description], list[str], list[str]]:
    """Return the descriptions of the model by source, and the errors of those that have none.

    Returns:
        Descriptions; lines about invalid ones of this package, which are problems; and lines about
        those of other programs, which have configs too.
    """
    declared, problems, reasons = {}, [], []
    for source, text in (("metadata", stored.metadata.get("config")), (CONFIG_FILE, stored.config)):
        name = "the file's metadata" if source == "metadata" else source
        if text is None:
            continue
        try:
            declared[name] = Description.from_json(text)
        except ConfigError as error:
            if is_description(text):
                problems.append(f"config: {name} is {printable(str(error))}")
            else:
                reasons.append(f"its {source} is {printable(str(error))}")
    return declared, problems, reasons


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

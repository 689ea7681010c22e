"""Find the autoencoder in a file whose names have a prefix, perhaps beside other networks."""

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Mapping

from aura_jax.checkpoint.names import WRAPPERS, without_wrappers
from aura_jax.checkpoint.tensors import StoredCheckpoint
from aura_jax.errors import CheckpointError, listed

NETWORKS = ("encoder", "decoder")
TRAINERS = {"loss", "discriminator"}  # networks that a trainer keeps beside an autoencoder


def autoencoder_in(stored: StoredCheckpoint, prefix: str | None = None) -> StoredCheckpoint:
    """Remove the prefix of an autoencoder's names, and all tensors that lie outside it.

    Args:
        stored: the file; the parts that training wrappers insert are allowed anywhere in a name.
        prefix: the part of the names before encoder and decoder, such as "first_stage_model", with
            or without its dot. Tensors outside it are then ignored, and so are those of a trainer's
            losses and discriminator. By default the prefix is the one that all names have, if any.

    Raises:
        CheckpointError: if no name has this prefix; or if none is given, and there are other
            tensors beside a prefixed autoencoder. The message names the prefixes.
    """
    plain = {name: without_wrappers(name) for name in stored.tensors}
    prefixes = _prefixes(plain.values())
    if prefix is None:
        chosen, ignored = _common(stored.source, prefixes, plain.values()), set()
    else:
        chosen, ignored = without_wrappers(prefix.strip(".")), TRAINERS
    start = f"{chosen}." if chosen else ""
    tensors = {}
    for name, inner in plain.items():
        if inner.startswith(start) and inner[len(start) :].partition(".")[0] not in ignored:
            short = _shortened(name, start.count("."))
            tensors[name if short in tensors else short] = stored.tensors[name]
    if prefix is not None and not tensors:
        first = f"{stored.source}: has no tensors under the prefix {listed([_quoted(chosen)])}"
        raise CheckpointError("\n  ".join((first, _choices(prefixes))))
    return dataclasses.replace(stored, tensors=tensors, prefix=chosen)


def _prefixes(names: Iterable[str]) -> list[str]:
    """Return the prefixes of an encoder and a decoder, or if there are none, of either."""
    networks: Mapping[str, set[str]] = defaultdict(set)
    for name in names:
        parts = name.split(".")
        first = next((i for i, part in enumerate(parts) if part in NETWORKS), None)
        if first is not None:
            networks[".".join(parts[:first])].add(parts[first])
    whole = [prefix for prefix, found in networks.items() if len(found) == len(NETWORKS)]
    return sorted(whole or networks)


def _common(source: str, prefixes: list[str], names: Iterable[str]) -> str:
    """Return the prefix that all names have; it is empty if no network has one."""
    if prefixes in ([], [""]):
        return ""
    if len(prefixes) == 1 and all(name.startswith(f"{prefixes[0]}.") for name in names):
        return prefixes[0]
    one = len(prefixes) == 1
    several = "an autoencoder beside other tensors" if one else "more than one autoencoder"
    choose = (
        "choose one: prefix=... of aura_jax.load, or --prefix ... of aura-jax info and of "
        "python -m convert, which writes it to a file of its own"
    )
    raise CheckpointError("\n  ".join((f"{source}: holds {several}", _choices(prefixes), choose)))


def _choices(prefixes: list[str]) -> str:
    return f"prefixes of an encoder and decoder: {listed(map(_quoted, prefixes)) or 'none'}"


def _quoted(prefix: str) -> str:
    return f'"{prefix}"'


def _shortened(name: str, count: int) -> str:
    """Remove the first parts of a name that are not a wrapper's."""
    parts = []
    for part in name.split("."):
        if count and part not in WRAPPERS:
            count -= 1
        else:
            parts.append(part)
    return ".".join(parts)

"""Callbacks that report the progress of a cache."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aura_jax.latents.manifest import Shard


class Listener:
    """Callbacks for the progress of a cache, which do nothing here."""

    def started(self, examples: int) -> None:
        """Handle the start of work on shards with this many examples in total."""

    def encoded(self, count: int) -> None:
        """Handle this many newly encoded images."""

    def finished(self, shards: Sequence["Shard"]) -> None:
        """Handle the finished shards of a tar or group of files."""

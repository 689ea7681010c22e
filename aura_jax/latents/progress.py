"""Callbacks that report the progress of a cache."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aura_jax.latents.manifest import Shard


class Listener:
    """Callbacks for the progress of a cache, which do nothing here."""

    def started(self, examples: int) -> None:
        """Handle the start of work on shards with this many examples in total."""

    def encoded(self, count: int) -> None:
        """Handle this many newly encoded images."""

    def finished(self, shard: "Shard") -> None:
        """Handle a finished shard."""

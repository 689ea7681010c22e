"""The callbacks by which a caller follows the work on a cache."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aura_jax.latents.manifest import Shard


class Listener:
    """Is told how the work on a cache gets on; this one ignores it. Calls come one at a time."""

    def started(self, examples: int) -> None:
        """Take note that shards of so many examples are not done yet."""

    def encoded(self, count: int) -> None:
        """Take note that so many more images were encoded."""

    def finished(self, shard: "Shard") -> None:
        """Take note of a shard that is done."""

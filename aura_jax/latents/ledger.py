"""The shards of a cache that are done, and the images that were skipped."""

import threading
from collections.abc import Mapping

from aura_jax.images.readers import check_skipped
from aura_jax.latents.encode_shard import ADVICE
from aura_jax.latents.manifest import Shard
from aura_jax.latents.progress import Listener
from aura_jax.latents.workspace import CacheFolder


class Ledger:
    """Note shards as they are done, and stop the work if too many images were skipped.

    Args:
        folder: where shards are noted.
        done: the shards of earlier runs, whose skipped images count too.
        max_skipped: how many images may be skipped.
        listener: is told of everything.

    Attributes:
        skipped: why images of the shards that are done were skipped, by their keys.

    Raises:
        ImageError: if too many were skipped before.
    """

    def __init__(
        self,
        folder: CacheFolder,
        done: Mapping[str, Shard],
        max_skipped: int,
        listener: Listener,
    ):
        self._folder, self._max_skipped, self._listener = folder, max_skipped, listener
        self._lock = threading.Lock()
        self.skipped: dict[str, str] = {}
        for shard in done.values():
            self.skipped |= shard.skipped
        check_skipped(self.skipped, max_skipped, ADVICE)

    def encoded(self, count: int) -> None:
        """Tell of latents of a shard that is not done yet."""
        with self._lock:
            self._listener.encoded(count)

    def finished(self, shard: Shard) -> None:
        """Note a shard whose file is whole.

        Raises:
            ImageError: if too many images are skipped by now.
        """
        self._folder.note(shard)
        with self._lock:
            self.skipped = {**self.skipped, **shard.skipped}  # other threads hold the old one
            self._listener.finished(shard)
            check_skipped(self.skipped, self._max_skipped, ADVICE)

"""A record of the finished shards of a cache, and of the skipped images."""

from collections.abc import Iterable, Sequence

from aura_jax.images.readers import check_skipped
from aura_jax.latents.encode_shard import ADVICE
from aura_jax.latents.manifest import Shard
from aura_jax.latents.progress import Listener
from aura_jax.latents.spec import CacheSpec
from aura_jax.latents.workspace import CacheFolder


class Ledger:
    """A record of finished shards, which stops the work if too many images are skipped.

    Args:
        folder: the folder of the cache, which keeps a note of each finished shard.
        spec: the contents of the cache.
        done: the shards of earlier runs, whose skipped images count too.
        max_skipped: the number of images that may be skipped.
        listener: receives the progress.

    Attributes:
        skipped: the reasons for skipping images of finished shards, by their keys.

    Raises:
        ImageError: if earlier runs skipped too many.
    """

    def __init__(
        self,
        folder: CacheFolder,
        spec: CacheSpec,
        done: Iterable[Shard],
        max_skipped: int,
        listener: Listener,
    ):
        self._folder, self._spec = folder, spec
        self._max_skipped, self._listener = max_skipped, listener
        self.skipped: dict[str, str] = {}
        for shard in done:
            self.skipped |= shard.skipped
        check_skipped(self.skipped, max_skipped, ADVICE)

    def encoded(self, count: int) -> None:
        """Report newly encoded latents of an unfinished shard to the listener."""
        self._listener.encoded(count)

    def finished(self, shards: Sequence[Shard]) -> None:
        """Record the shards of a tar or group of files; their files are complete.

        Raises:
            ImageError: if too many images have been skipped.
        """
        self._folder.note(shards, self._spec)
        for shard in shards:
            self.skipped |= shard.skipped
        self._listener.finished(shards)
        check_skipped(self.skipped, self._max_skipped, ADVICE)

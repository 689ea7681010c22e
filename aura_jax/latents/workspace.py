"""The folder of a cache while it is made: who writes, with which settings, and what is done."""

import dataclasses
import fcntl
import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from aura_jax.errors import CacheError, differences, first_of
from aura_jax.files import check_folder, replacing
from aura_jax.latents.manifest import NAME, Manifest, Shard, read_manifest, write_manifest


class BusyError(CacheError):
    """Another process is writing the cache."""


@dataclasses.dataclass(frozen=True)
class CacheFolder:
    """A cache being made in `path`: each finished shard has a note of its own until all are.

    A note is written once its shard is whole under its own name, and the manifest once all notes
    are, so a process can be killed anywhere.
    """

    path: Path

    @property
    def notes(self) -> Path:
        """Where a draft of the manifest and the notes are, until the manifest has them."""
        return self.path / ".progress"

    @contextmanager
    def locked(self, part: str | None = None) -> Iterator[None]:
        """Keeps other writers away: of the same part, or all. A killed process holds no lock.

        Raises:
            BusyError: if another process is writing.
        """
        check_folder(self.path)
        self.path.mkdir(parents=True, exist_ok=True)
        with self._lock(".lock", shared=part is not None):
            if part is None:
                yield
                return
            with self._lock(f".lock.{part}", shared=False):
                self._check_division(part)
                yield

    def begin(self, draft: Manifest) -> dict[str, Shard]:
        """Starts a cache, or goes on with the one that is there.

        Args:
            draft: the manifest, as yet without shards.

        Returns:
            The shards that are done, by their files; one whose file is not whole is not done.

        Raises:
            CacheError: if the folder holds a cache of other settings, or something else.
        """
        if (self.path / NAME).exists():
            finished = read_manifest(self.path)
            self._check_same(finished, draft)
            if all(map(self._is_whole, finished.shards)):
                return {shard.file: shard for shard in finished.shards}
            self._reopen(finished)
        elif (self.notes / NAME).exists():
            self._check_same(read_manifest(self.notes), draft)
        else:
            self._start(draft)
        return {shard.file: shard for shard in self._read_notes() if self._is_whole(shard)}

    def note(self, shard: Shard) -> None:
        """Notes a shard whose file is whole."""
        with replacing(self.notes / f"{shard.file}.json") as path:
            path.write_text(json.dumps(dataclasses.asdict(shard)))

    def finish(self, draft: Manifest, files: Sequence[str]) -> Manifest | None:
        """Writes the manifest and removes all that is not of a finished cache.

        Returns:
            The manifest; None if not all of the shards `files` are done yet.
        """
        done = self.begin(draft)
        if done.keys() != {*files}:
            return None
        if not (self.path / NAME).exists():
            there = read_manifest(self.notes)
            shards = tuple(done[file] for file in files)
            self._check_some(shards)
            write_manifest(self.path, dataclasses.replace(there, shards=shards))
        self.sweep([*files, NAME, "lock"])
        shutil.rmtree(self.notes, ignore_errors=True)
        return read_manifest(self.path)

    def sweep(self, files: Iterable[str]) -> None:
        """Removes what killed processes left of these files under temporary names."""
        for file in files:
            for leftover in self.path.glob(f".{file}.*"):
                leftover.unlink(missing_ok=True)

    def _check_some(self, shards: Sequence[Shard]) -> None:
        if not any(shard.count for shard in shards):
            reasons = (f"{key}: {why}" for shard in shards for key, why in shard.skipped.items())
            raise CacheError(
                f"{self.path}: none of the pictures could be cached; {first_of(reasons)}"
            )

    def _check_division(self, part: str) -> None:
        """Shares of another division would sweep away what this one writes."""
        ending = part[part.index("-") :]
        for other in self.path.glob(".lock.*"):
            if not other.name.endswith(ending):
                with self._lock(other.name, shared=False):
                    pass

    def _start(self, draft: Manifest) -> None:
        visible = [path for path in self.path.iterdir() if not path.name.startswith(".")]
        if visible:
            raise CacheError(f"{self.path}: holds files, but no cache; give an empty folder")
        self.notes.mkdir(exist_ok=True)
        write_manifest(self.notes, draft)

    def _reopen(self, finished: Manifest) -> None:
        """Turns a cache that has lost files back into one in the making."""
        self.notes.mkdir(exist_ok=True)
        for shard in finished.shards:
            self.note(shard)
        write_manifest(self.notes, dataclasses.replace(finished, shards=()))
        (self.path / NAME).unlink()

    def _check_same(self, there: Manifest, draft: Manifest) -> None:
        if changed := differences(there.settings, draft.settings):
            raise CacheError(
                f"{self.path}: holds a cache made with other weights or settings; give another "
                f"folder, or the same settings\n  " + "\n  ".join(changed)
            )

    def _read_notes(self) -> list[Shard]:
        notes = sorted(path for path in self.notes.glob("[!.]*.json") if path.name != NAME)
        return [Shard(**json.loads(path.read_text())) for path in notes]

    def _is_whole(self, shard: Shard) -> bool:
        path = self.path / shard.file
        return path.exists() and path.stat().st_size == shard.bytes

    @contextmanager
    def _lock(self, name: str, *, shared: bool) -> Iterator[None]:
        with (self.path / name).open("w") as file:
            try:
                fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BusyError(
                    f"{self.path}: another process is writing this cache; wait until it has ended"
                ) from None
            yield

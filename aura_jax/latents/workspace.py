"""The folder of an unfinished cache: its spec and its finished shards."""

import dataclasses
import shutil
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from aura_jax.errors import CacheError, differences, first_of
from aura_jax.files import check_folder, check_own, remove_leftovers
from aura_jax.latents.json_file import read_json, to_builtins, write_json
from aura_jax.latents.locks import remove_job_locks
from aura_jax.latents.manifest import NAME, Manifest, Shard, read_manifest, write_manifest
from aura_jax.latents.spec import CacheSpec

DIGESTS = {
    "keys": "images: other names than before",
    "sizes": "images: files of other sizes in bytes than before",
}

type Done = dict[int, tuple[Shard, ...]]


@dataclasses.dataclass(frozen=True)
class CacheFolder:
    """The folder of a cache that is being made, with a note for each finished shard.

    A note is written after its shard's file, and the manifest after all notes, so a process can be
    killed at any moment.
    """

    path: Path

    @property
    def notes(self) -> Path:
        """The folder of the draft manifest and the notes, which is removed at the end."""
        return self.path / ".progress"

    def check(self) -> None:
        """Raise an error if the folder cannot be made or written, or holds files of another kind.

        Raises:
            AuraError: if it cannot be used.
        """
        check_folder(self.path)
        try:
            str(self.path.absolute()).encode()
        except UnicodeEncodeError:  # ArrayRecord 0.8 takes no other names
            raise CacheError(
                f"{self.path.absolute()}: the path is not in UTF-8; give another folder"
            ) from None
        if self.path.exists() and not (self.notes / NAME).exists():
            check_own(self.path, self.path / NAME, "cache")

    def begin(self, draft: Manifest) -> Done:
        """Start a cache, or resume the one that is there.

        Args:
            draft: the manifest, without its shards.

        Returns:
            The finished shards by their index, without those with a missing or truncated file.

        Raises:
            AuraError: if the folder holds a cache of another spec, or other files.
        """
        if (self.path / NAME).exists():
            finished = read_manifest(self.path)
            self._check_same(finished, draft)
            if _is_complete(finished) and self._are_whole(finished.shards):
                return dict(_by_index(finished.shards))
            self._reopen(finished)
        elif (self.notes / NAME).exists():
            self._check_same(read_manifest(self.notes), draft)
        else:
            self.check()
            self.notes.mkdir(exist_ok=True)
            write_manifest(self.notes, draft)
        return {
            index: shards
            for index, shards in _by_index(filter(draft.fits, self._read_notes()))
            if _has_all_parts(shards) and self._are_whole(shards)
        }

    def note(self, shards: Sequence[Shard], spec: CacheSpec) -> None:
        """Write the notes of a tar or group of files, whose shards are complete.

        Files and notes of other sizes go: they come from images that have changed since.
        """
        files = {shard.file for shard in shards}
        others = {spec.file(shards[0].index, size) for size in spec.image_sizes} - files
        for path in map(self._note, others):
            path.unlink(missing_ok=True)
        for file in others:
            (self.path / file).unlink(missing_ok=True)
        for shard in shards:
            write_json(self._note(shard.file), shard)

    def finish(self, draft: Manifest, count: int) -> Manifest | None:
        """Write the manifest if all shards are finished, and remove notes and temporary files.

        Args:
            draft: the manifest, without its shards.
            count: the number of tars and groups of files.

        Returns:
            The manifest; None if shards are missing.

        Raises:
            CacheError: if every image was skipped.
        """
        done = self.begin(draft)
        if done.keys() != {*range(count)}:
            return None
        if not (self.path / NAME).exists():
            there = read_manifest(self.notes)
            shards = tuple(shard for index in range(count) for shard in done[index])
            self._check_some(shards)
            write_manifest(self.path, dataclasses.replace(there, shards=shards))
        self.sweep(draft, range(count))
        remove_leftovers([self.path / NAME])
        remove_job_locks(self.path)
        shutil.rmtree(self.notes, ignore_errors=True)
        return read_manifest(self.path)

    def sweep(self, draft: Manifest, indices: Iterable[int]) -> None:
        """Remove the temporary files of these shards that killed processes left behind."""
        spec = draft.spec
        names = (spec.file(index, size) for index in indices for size in spec.image_sizes)
        remove_leftovers(self.path / name for name in names)

    def _check_some(self, shards: Sequence[Shard]) -> None:
        if not any(shard.count for shard in shards):
            reasons = (f"{key}: {why}" for shard in shards for key, why in shard.skipped.items())
            raise CacheError(
                f"{self.path}: none of the images could be cached; {first_of(reasons)}"
            )

    def _reopen(self, finished: Manifest) -> None:
        """Turn a finished cache with missing files back into an unfinished one."""
        self.notes.mkdir(exist_ok=True)
        for shard in finished.shards:
            write_json(self._note(shard.file), shard)
        write_manifest(self.notes, dataclasses.replace(finished, shards=()))
        (self.path / NAME).unlink()

    def _check_same(self, there: Manifest, draft: Manifest) -> None:
        before = dataclasses.replace(there.spec)  # with the defaults, which msgspec leaves out
        if changed := differences(_shown(before), _shown(draft.spec), DIGESTS):
            raise CacheError(
                f"{self.path}: holds a cache of other images, weights or options; give another "
                f"folder, or the same as before\n  " + "\n  ".join(changed)
            )

    def _note(self, file: str) -> Path:
        return self.notes / f"{file}.json"

    def _read_notes(self) -> list[Shard]:
        notes = sorted(path for path in self.notes.glob("[!.]*.json") if path.name != NAME)
        shards = [read_json(path, Shard) for path in notes]
        for path, shard in zip(notes, shards, strict=True):
            if path.name != f"{shard.file}.json":
                raise CacheError(
                    f"{path}: is the note of {shard.file}; delete it and run the command again"
                )
        return sorted(shards, key=lambda shard: (shard.index, shard.size or ()))

    def _are_whole(self, shards: Iterable[Shard]) -> bool:
        paths = [(self.path / shard.file, shard.bytes) for shard in shards]
        return all(path.exists() and path.stat().st_size == size for path, size in paths)


def _by_index(shards: Iterable[Shard]) -> Iterator[tuple[int, tuple[Shard, ...]]]:
    """Group shards by the tar or group of files that they come from."""
    for index, group in groupby(shards, lambda shard: shard.index):
        yield index, tuple(group)


def _is_complete(finished: Manifest) -> bool:
    """Return whether a manifest names all shards, each once; a damaged one may not."""
    shards = {shard.file: shard for shard in finished.shards}.values()
    counts = (len(shards), sum(shard.examples for shard in shards))
    parts = all(_has_all_parts(each) for _, each in _by_index(finished.shards))
    names = all(map(finished.fits, finished.shards))
    return parts and names and counts == (len(finished.shards), finished.spec.images)


def _shown(spec: CacheSpec) -> dict[str, Any]:
    """Convert a spec to JSON, with buckets as in the command line."""
    return to_builtins(spec) | {"buckets": ", ".join(map(str, spec.buckets))}


def _has_all_parts(shards: Sequence[Shard]) -> bool:
    """Return whether these are all shards of a tar or group of files."""
    return all(shard.parts == len(shards) for shard in shards)

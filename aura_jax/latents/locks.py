"""Locks of a cache's folder, which keep its writers apart."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from aura_jax.errors import CacheError
from aura_jax.files import locked

LOCK = ".lock"  # the file that all writers lock; the file of a job is named after the job too


class BusyError(CacheError):
    """Another process is writing the cache."""


@contextmanager
def writing_lock(folder: Path, job: str | None = None) -> Iterator[None]:
    """Lock a folder against other writers: of the same job, or all if `job` is None.

    Args:
        folder: the folder, which is made if it does not exist.
        job: the job, such as "0-8"; None excludes every other writer.

    Raises:
        BusyError: if another process is writing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder / LOCK, shared=job is not None):
        if job is None:
            yield
            return
        with _locked(folder / f"{LOCK}.{job}", shared=False):
            _check_division(folder, job)
            yield


def remove_job_locks(folder: Path) -> None:
    """Remove the files of jobs' locks, while no job runs."""
    for lock in _job_locks(folder):
        lock.unlink(missing_ok=True)


def _check_division(folder: Path, job: str) -> None:
    """Raise an error if jobs of another N run: they would sweep away each other's files."""
    ending = job[job.index("-") :]
    for other in _job_locks(folder):
        if not other.name.endswith(ending):
            with _locked(other, shared=False):
                pass


def _job_locks(folder: Path) -> Iterator[Path]:
    return folder.glob(f"{LOCK}.*")


@contextmanager
def _locked(path: Path, *, shared: bool) -> Iterator[None]:
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(path, shared=shared))
        except BlockingIOError:
            raise BusyError(
                f"{path.parent}: another process is writing this cache; wait until it has ended"
            ) from None
        yield

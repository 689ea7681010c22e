"""Find the file of a checkpoint by path or by a repository id of the Hugging Face hub."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from aura_jax.checkpoint.known import EMBEDDED, embedded_file, published_file, suggestion
from aura_jax.checkpoint.shards import INDEX_ENDING, PICKLES, SAFETENSORS, choose, read_index
from aura_jax.checkpoint.tensors import CONFIG_FILE
from aura_jax.errors import CheckpointError, printable

REPO_ID = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(?:/(?P<file>.+))?")
CHECKPOINT_ENDINGS = (SAFETENSORS, INDEX_ENDING, *PICKLES)
PATIENCE = 2.5  # seconds for the hub's first answer, after which the cache is used


def find_checkpoint(
    path_or_repo_id: str | Path,
    *,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    token: str | bool | None = None,
) -> Path:
    """Return the local file of a checkpoint, downloading it to the hub client's cache if needed.

    Without a network, or with HF_HUB_OFFLINE=1, files in that cache are used.

    Args:
        path_or_repo_id: "small", the checkpoint that comes with the package; a file; a folder or
            "owner/name", a repository, with one checkpoint; or "owner/name/file" for one of
            several. A checkpoint of several files is found by their index.
        revision: a branch, tag or commit of the repository.
        cache_dir: the folder of downloads, by default that of the hub's client.
        token: an access token, or whether to use the one that the client has stored.

    Returns:
        The file, or the index of the files.

    Raises:
        CheckpointError: if there is no such file, or it cannot be downloaded; the message suggests
            a known name that is similar.
    """
    name = str(path_or_repo_id)
    if not name:  # as a path it would be the working folder
        raise CheckpointError(
            '"": expected a file, a folder or a name; "small" comes with aura-jax'
        )
    path = _local(name)
    if path is not None:
        if revision is not None:
            raise CheckpointError(f"{name}: is on this machine and has no revision {revision!r}")
        return path
    match = REPO_ID.fullmatch(name)
    names_file = name.endswith(CHECKPOINT_ENDINGS)
    if match is None or names_file != (match["file"] is not None) or Path(match["repo"]).is_dir():
        raise CheckpointError(f"{name}: no such file{suggestion(name)}")
    options = {"revision": revision, "cache_dir": cache_dir, "token": token}
    try:
        return _fetch(match["repo"], match["file"], options)
    except CheckpointError:
        raise
    except Exception as error:  # the client's HTTP library, and so its errors, vary by version
        raise CheckpointError(
            f"{name}: no such file, and it cannot be downloaded from the Hugging Face hub "
            f"({one_line(error)}); check your connection and the name{suggestion(name)}"
        ) from None


def one_line(error: BaseException) -> str:
    """Return the message of an error of the hub's client as one printable line."""
    return printable(" ".join(str(error).split()), 500)


def is_local(path_or_repo_id: str) -> bool:
    """Return whether `find_checkpoint` would find a local file under this name."""
    return path_or_repo_id != EMBEDDED and Path(path_or_repo_id).exists()


def _local(name: str) -> Path | None:
    """Return the checkpoint of this name on this machine; None if there is none."""
    if name == EMBEDDED:
        return embedded_file()
    path = Path(name)
    try:
        if not path.exists():
            return None
        if not path.is_dir():
            return path
        return path / choose((each.name for each in path.iterdir() if each.is_file()), name)
    except OSError as error:  # such as a parent folder without permission
        raise CheckpointError(f"{name}: {error.strerror}") from None


def _fetch(repo: str, file: str | None, options: dict[str, Any]) -> Path:
    """Download a file and what belongs to it; without a network, use the cache.

    The shards of an index belong to it, and config.json if the file is the only checkpoint.
    """
    # Late: the import takes a quarter of a second, and most checkpoints are local.
    from huggingface_hub import hf_hub_download

    names, is_offline = _listing(repo, options)
    path = file or published_file(repo) or choose(names, repo)

    folder, _, name = path.rpartition("/")

    def fetch(name: str) -> Path:
        place = f"{folder}/{name}".lstrip("/")
        return Path(hf_hub_download(repo, place, local_files_only=is_offline, **options))

    found = fetch(name)
    if file is None and f"{folder}/{CONFIG_FILE}".lstrip("/") in names:
        fetch(CONFIG_FILE)
    for shard in read_index(found) if name.endswith(INDEX_ENDING) else ():
        fetch(shard)
    return found


def _listing(repo: str, options: dict[str, Any]) -> tuple[Iterable[str], bool]:
    """List the files of a repository, and return whether only those in the cache are known.

    The client itself would try to connect for half a minute.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        info = HfApi(token=options["token"]).model_info(
            repo, revision=options["revision"], timeout=PATIENCE
        )
        return [file.rfilename for file in info.siblings or ()], False
    except Exception as error:
        try:
            # A snapshot that lacks some files is found too.
            found = snapshot_download(repo, local_files_only=True, allow_patterns=[], **options)
        except LocalEntryNotFoundError:
            raise error from None
    files = [path for path in Path(found).rglob("*") if path.is_file()]
    return [path.relative_to(found).as_posix() for path in files], True

"""Find the file of a checkpoint by path or by a repository id of the Hugging Face hub."""

import re
from pathlib import Path

from aura_jax.errors import CheckpointError

REPO_ID = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(?:/(?P<file>.+))?")
CHECKPOINT_ENDINGS = (".safetensors", ".pt", ".pth", ".ckpt")
EMBEDDED = "small"  # the checkpoint that comes with the package
PUBLISHED_FILES = {"fal/AuraEquiVAE": "vae_epoch_3_step_49501_bf16.pt"}


def find_checkpoint(path_or_repo_id: str | Path) -> Path:
    """Return the local file of a checkpoint, downloading it to the hub client's cache if needed.

    Args:
        path_or_repo_id: "small", the checkpoint that comes with the package; a path;
            "owner/name", a repository with one checkpoint file; or "owner/name/file" for one of
            several files.

    Raises:
        CheckpointError: if there is no such file, or it cannot be downloaded.
    """
    if path_or_repo_id == EMBEDDED:
        return Path(__file__).parent.parent / "weights" / f"{EMBEDDED}.safetensors"
    path = Path(path_or_repo_id)
    try:
        if path.exists():
            return path
    except OSError as error:  # such as a parent folder without permission
        raise CheckpointError(f"{path}: {error.strerror}") from None
    match = REPO_ID.fullmatch(str(path_or_repo_id))
    names_file = path.suffix in CHECKPOINT_ENDINGS
    if match is None or names_file != (match["file"] is not None) or Path(match["repo"]).is_dir():
        raise CheckpointError(f"{path}: no such file")
    return _fetch(match["repo"], match["file"])


def is_local(path_or_repo_id: str) -> bool:
    """Return whether `find_checkpoint` would find a local file under this name."""
    return path_or_repo_id != EMBEDDED and Path(path_or_repo_id).exists()


def _fetch(repo: str, file: str | None) -> Path:
    # Late: the import takes a quarter of a second, and most checkpoints are local.
    from huggingface_hub import hf_hub_download

    name = f"{repo}/{file}" if file else repo
    try:
        return Path(hf_hub_download(repo, file or PUBLISHED_FILES.get(repo) or _only_file(repo)))
    except CheckpointError:
        raise
    except Exception as error:  # the client's HTTP library, and so its errors, vary by version
        raise CheckpointError(
            f"{name}: no such file, and it cannot be downloaded from the Hugging Face hub ({error})"
        ) from None


def _only_file(repo: str) -> str:
    from huggingface_hub import HfApi

    files = [name for name in HfApi().list_repo_files(repo) if name.endswith(CHECKPOINT_ENDINGS)]
    if len(files) != 1:
        choices = ", ".join(files) or "no checkpoint"
        raise CheckpointError(f"{repo}: holds {choices}; name one file as {repo}/FILE")
    return files[0]

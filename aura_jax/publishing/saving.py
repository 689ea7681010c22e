"""Write a model with its config and card to a folder, and push such a folder to the hub."""

import shutil
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from aura_jax.checkpoint.description import description_of, is_description
from aura_jax.checkpoint.hub import REPO_ID, one_line
from aura_jax.checkpoint.known import EMBEDDED
from aura_jax.checkpoint.loading import save
from aura_jax.checkpoint.tensors import CONFIG_FILE
from aura_jax.errors import AuraError
from aura_jax.files import check_folder, check_own, replacing
from aura_jax.model.autoencoder import AuraEquiVAE
from aura_jax.publishing.card import model_card
from aura_jax.publishing.quality import Places, measure_quality

MODEL_FILE, CARD_FILE = "model.safetensors", "README.md"


def save_pretrained(
    vae: AuraEquiVAE, folder: str | Path, photographs: Places | None = None
) -> None:
    """Write a folder as `AuraEquiVAE.save_pretrained` does."""
    if not str(folder):  # as a path it would be the working folder
        raise AuraError('"": expected a folder; "." is the working folder')
    name = Path(folder).resolve().name  # that of "." too
    _save(vae, Path(folder), photographs, name=f"./{name}" if name == EMBEDDED else name)


def push_to_hub(
    vae: AuraEquiVAE,
    repo_id: str,
    *,
    private: bool | None,
    token: str | bool | None,
    revision: str | None,
    commit_message: str,
    photographs: Places | None,
) -> str:
    """Upload a model as `AuraEquiVAE.push_to_hub` does, and return the commit's address."""
    match = REPO_ID.fullmatch(str(repo_id))
    if match is None or match["file"] is not None:
        raise AuraError(f"{repo_id}: not the name of a repository; give OWNER/NAME")
    # Late: the import takes a quarter of a second.
    from huggingface_hub import HfApi, get_token

    given = token if isinstance(token, str) else token is not False and get_token()
    if not given:
        raise AuraError(f"{repo_id}: no access token for the hub; run hf auth login or give token=")
    with TemporaryDirectory() as temporary:
        folder = Path(temporary) / "model"
        _save(vae, folder, photographs, name=repo_id)
        try:
            hub = HfApi(token=token)
            hub.create_repo(repo_id, private=private, exist_ok=True)
            if revision is not None:
                hub.create_branch(repo_id, branch=revision, exist_ok=True)
            commit = hub.upload_folder(
                repo_id=repo_id,
                folder_path=folder,
                revision=revision,
                commit_message=commit_message,
            )
        except Exception as error:  # the client's HTTP library, and so its errors, vary by version
            reason = one_line(_reason(error))
            raise AuraError(
                f"{repo_id}: cannot be pushed to the Hugging Face hub ({reason}); check your "
                "connection, the name, and that the token may write to it"
            ) from None
    return commit.commit_url


def _save(vae: AuraEquiVAE, folder: Path, photographs: Places | None, *, name: str) -> None:
    description = description_of(vae)
    _check(folder)
    card = model_card(vae, measure_quality(vae, photographs), name=name)
    is_new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as files:  # all are written before the first is renamed
            model, config, readme = (
                files.enter_context(replacing(folder / each))
                for each in (MODEL_FILE, CONFIG_FILE, CARD_FILE)
            )
            save(vae, model)
            config.write_text(description.to_json(indent=2) + "\n", "utf-8")
            readme.write_text(card, "utf-8")
    except BaseException as error:
        if is_new:
            shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, OSError):
            raise AuraError(f"{folder}: cannot be written ({error.strerror})") from None
        raise


def _check(folder: Path) -> None:
    """Refuse, before the work, a folder that cannot be written or holds another program's files."""
    check_folder(folder)
    if not folder.exists():
        return
    config = folder / CONFIG_FILE
    check_own(folder, config, "saved AuraEquiVAE")
    if config.exists() and not is_description(config.read_text("utf-8", errors="replace")):
        raise AuraError(f"{config}: was not written by save_pretrained; give an empty folder")


def _reason(error: Exception) -> BaseException:
    """Return the cause of a failed upload, which the client (2.4) wraps in a RuntimeError."""
    return (isinstance(error, RuntimeError) and error.__cause__) or error

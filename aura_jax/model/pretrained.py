"""Methods of a model that read and write its checkpoints, with the names of Hugging Face's.

They import late, since checkpoints and model cards are made of models.
"""

from pathlib import Path
from typing import TYPE_CHECKING, cast

from jax.typing import DTypeLike

if TYPE_CHECKING:
    from aura_jax.model.autoencoder import AuraEquiVAE
    from aura_jax.publishing.quality import Places


class Pretrained:
    """Methods of `AuraEquiVAE` that load, save and publish it."""

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        *,
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        token: str | bool | None = None,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike | None = None,
        prefix: str | None = None,
    ) -> "AuraEquiVAE":
        """Load a checkpoint as `aura_jax.load` does, which explains the arguments.

        Args:
            name_or_path: a name of `aura_jax.list_checkpoints`, a file, a folder such as
                `save_pretrained` writes, or a repository of the Hugging Face hub.
            revision: a branch, tag or commit of the repository.
            cache_dir: the folder for downloads.
            token: an access token for the hub, or whether to use the stored one.
            dtype: the dtype to compute in.
            param_dtype: the dtype to keep parameters in.
            prefix: the part of the names before encoder and decoder.

        Raises:
            AuraError: as `aura_jax.load`.
        """
        from aura_jax.checkpoint.loading import load

        return load(
            name_or_path,
            dtype=dtype,
            param_dtype=param_dtype,
            prefix=prefix,
            revision=revision,
            cache_dir=cache_dir,
            token=token,
        )

    def save_pretrained(self, folder: str | Path, *, photographs: "Places | None" = None) -> None:
        """Write model.safetensors, config.json and a model card to a folder, for `from_pretrained`.

        The card has the quality of reconstructions and flips, measured on photographs, and the
        latent statistics. A model saved in the same folder before is replaced with its card.

        Args:
            folder: an empty or new folder, or one that this method wrote.
            photographs: the folders, tars or image files to measure on. By default it is the
                photograph that comes with the package; an empty list measures nothing.

        Raises:
            AuraError: if the folder cannot be written or has other files, or a photograph cannot be
                read. Nothing is written then.
        """
        from aura_jax.publishing.saving import save_pretrained

        save_pretrained(cast("AuraEquiVAE", self), folder, photographs)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        token: str | bool | None = None,
        revision: str | None = None,
        commit_message: str = "Upload AuraEquiVAE",
        photographs: "Places | None" = None,
    ) -> str:
        """Upload the files of `save_pretrained` to a repository of the Hugging Face hub.

        Args:
            repo_id: the repository, "owner/name", which is made if it is missing.
            private: whether a new repository is private; by default its owner's setting.
            token: an access token, by default the stored one.
            revision: the branch, which is made if it is missing.
            commit_message: the commit's message.
            photographs: see `save_pretrained`.

        Returns:
            The address of the commit.

        Raises:
            AuraError: if the name is not that of a repository, there is no token, a photograph
                cannot be read, or the hub cannot be reached or refuses the upload.
        """
        from aura_jax.publishing.saving import push_to_hub

        return push_to_hub(
            cast("AuraEquiVAE", self),
            repo_id,
            private=private,
            token=token,
            revision=revision,
            commit_message=commit_message,
            photographs=photographs,
        )

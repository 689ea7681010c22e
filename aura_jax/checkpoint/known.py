"""The checkpoints that are known by name, and suggestions for misspelt names."""

import dataclasses
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

EMBEDDED = "small"


@dataclasses.dataclass(frozen=True)
class KnownCheckpoint:
    """A checkpoint that `aura_jax.load` finds by its name.

    Attributes:
        name: the name to give to `load`, `from_pretrained` or `--weights`.
        where: "package" if it comes with this package, "hub" if it is downloaded from the Hugging
            Face hub on first use.
        file: the file's name in that place.
        parameters: the number of parameters.
        size: the file's size in bytes; None if it is not known without a download.
        license: the license's SPDX identifier.
    """

    name: str
    where: Literal["package", "hub"]
    file: str
    parameters: int
    size: int | None
    license: str


def list_checkpoints() -> list[KnownCheckpoint]:
    """List the checkpoints that come with the package or are known on the hub, without a network.

    Any other repository of the hub, file or folder with a checkpoint can be loaded too.
    """
    size = embedded_file().stat().st_size
    return [
        KnownCheckpoint(EMBEDDED, "package", embedded_file().name, 4_107_219, size, "Apache-2.0"),
        KnownCheckpoint(
            "fal/AuraEquiVAE",
            "hub",
            "vae_epoch_3_step_49501_bf16.pt",
            334_534_931,
            None,
            "Apache-2.0",
        ),
    ]


def embedded_file() -> Path:
    """Return the file of the checkpoint that comes with the package."""
    return Path(__file__).parent.parent / "weights" / f"{EMBEDDED}.safetensors"


def published_file(repo: str) -> str | None:
    """Return the checkpoint's file in a repository that is known; None in others."""
    return next((each.file for each in list_checkpoints() if each.name == repo), None)


def suggestion(name: str) -> str:
    """Return the end of a message about an unknown name: the known name like it, or nothing.

    A known name is similar if it, or its part after the owner, differs in a few letters.
    """
    spelled = {each.name.casefold(): each.name for each in list_checkpoints()}
    spelled |= {key.rpartition("/")[2]: each for key, each in spelled.items()}
    close = get_close_matches(name.casefold(), spelled, n=1, cutoff=0.7)
    found = spelled[close[0]] if close else name
    return "" if found == name else f'; did you mean "{found}"?'

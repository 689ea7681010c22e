"""The functions that the page's events call.

A visitor's photograph and latent are kept in the state of the visit, so visitors share neither.
"""

import dataclasses
import html
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import gradio as gr

from aura_jax.demo.experiment import (
    Checkpoint,
    Photograph,
    encode_photograph,
    read_photograph,
    try_flip,
    write_latent,
)
from aura_jax.errors import AuraError
from aura_jax.images.options import Decoding
from aura_jax.images.pil import latents_to_pil
from aura_jax.images.readers import PHOTOGRAPH
from aura_jax.images.transforms import Pixels8
from aura_jax.photo_latents import Latent, Reconstruction


@dataclasses.dataclass(frozen=True)
class Encoded:
    """A photograph, and its latent by the checkpoint of this name."""

    photograph: Photograph
    weights: str
    latent: Latent


@dataclasses.dataclass(frozen=True)
class Actions:
    """The functions that the page's events call, on the settings that all visitors share.

    Attributes:
        checkpoints: the checkpoints to choose from, by name.
        size: the side in pixels to which photographs are scaled.
        decoding: how image files are decoded.
        folder: the folder for files of latents.
    """

    checkpoints: Mapping[str, Checkpoint]
    size: int
    decoding: Decoding
    folder: Path

    def open(self, weights: str, file: str = str(PHOTOGRAPH)) -> Encoded:
        """Read and encode an image file, by default the one that comes with the package."""
        with _sentences():
            photograph = read_photograph(Path(file), self.size, self.decoding, _note)
            return self._encoded(weights, photograph)

    def encode(self, weights: str, before: Encoded | None) -> Encoded:
        """Encode the same photograph with another checkpoint."""
        with _sentences():
            return self._encoded(weights, _opened(before).photograph)

    def show(
        self, encoded: Encoded | None, horizontal: bool, vertical: bool, sigma: int | float
    ) -> tuple[Any, ...]:
        """Flip a latent, and return the values of the page's pictures, captions and download."""
        with _sentences():
            opened = _opened(encoded)
            photograph, checkpoint = opened.photograph, self.checkpoints[opened.weights]
            found = try_flip(
                checkpoint.codec,
                photograph.pixels,
                opened.latent,
                {"horizontal": horizontal, "vertical": vertical},
                float(sigma),  # a whole number in JSON is an int
            )
            (picture,) = latents_to_pil(found.latent.values)
            folder = Path(mkdtemp(dir=self.folder))
            file = write_latent(folder, photograph.name, found.latent, checkpoint)
        return (
            found.target,
            picture,
            *_decoded("Decoded with signs", found.signed),
            *_decoded("Decoded without signs", found.naive),
            str(file),
        )

    def _encoded(self, weights: str, photograph: Photograph) -> Encoded:
        latent = encode_photograph(self.checkpoints[weights].codec, photograph)
        return Encoded(photograph, weights, latent)


def _opened(encoded: Encoded | None) -> Encoded:
    if encoded is None:
        raise AuraError("no photograph is open: upload one")
    return encoded


def _decoded(caption: str, found: Reconstruction) -> tuple[str, Pixels8]:
    return f"{caption}: PSNR **{found.psnr:.1f} dB**", found.image


def _note(line: str) -> None:
    gr.Warning(html.escape(line))


@contextmanager
def _sentences() -> Iterator[None]:
    """Show an error that the visitor can mend as a sentence on the page."""
    try:
        yield
    except (AuraError, OSError) as error:
        # Gradio 6.31 renders the message as HTML.
        raise gr.Error(html.escape(str(error)), print_exception=False) from None

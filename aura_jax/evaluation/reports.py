"""The report of `aura-jax evaluate`: several models on the same images, as one JSON document."""

import dataclasses
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import jax

import aura_jax
from aura_jax.config import AuraConfig
from aura_jax.documents import as_json
from aura_jax.evaluation.measures import Evaluation, Quality, Scores

PACKAGES = ("jax", "flax", "dm-pix", "numpy", "pillow")
DEFINITIONS = {
    "images": "centered squares of image files, scaled to size x size pixels by Pillow's LANCZOS; "
    "all measures compare 8-bit levels, as the PNG files hold them",
    "dtype": "the dtype that the models compute in; matmul precision is highest",
    "reconstruction": "decode(encode(x)), clamped and rounded to 8 bits, against x",
    "flips": "decode(g·encode(x)) against g·x; g: h horizontal, v vertical, hv both",
    "storage": "decode(z') against x; z' is encode(x) in the storage dtype of a cache",
    "psnr_db": "10·log10(255² / mean squared error) over all pixels and channels",
    "ssim": "mean over pixels and channels; Gaussian window of 11 x 11 pixels inside the image, "
    "sigma 1.5, K1 0.01, K2 0.03, data range 255, population covariance; "
    "scikit-image: gaussian_weights=True, sigma=1.5, use_sample_covariance=False",
    "lpips": "LPIPS 0.1 with VGG16, images in [-1, 1]; null without --perceptual",
    "bits_per_pixel": "bits of the numbers of a latent for each image pixel; 8-bit RGB has 24",
    "fingerprint": "sha256 of the names, shapes and float32 values of the parameters",
    "average": "means over images, of decibels too",
    "null": "for psnr_db, infinity: the images are equal, or some of the averaged ones are",
}


@dataclasses.dataclass(frozen=True)
class Picture:
    """An image file that was evaluated.

    Attributes:
        image: the path of the file; for a member of a tar, that of the tar and the member's name.
        width: its width in pixels, before it was cut and scaled.
        height: its height.
        png: the name of its PNG files in the folders of the report; None if none were written.
    """

    image: str
    width: int
    height: int
    png: str | None = None


@dataclasses.dataclass(frozen=True)
class Model:
    """A model that was evaluated.

    Attributes:
        weights: the name of its checkpoint, as it was given.
        fingerprint: the sha256 of its parameters by name, as float32.
        config: its sizes.
        equivariant: whether it was averaged over the flips, as `aura_jax.equivariant` does.
        folder: the folder of its reconstructions within the report's folder; None if none were
            written.
    """

    weights: str
    fingerprint: str
    config: AuraConfig
    equivariant: bool = False
    folder: str | None = None


@dataclasses.dataclass(frozen=True)
class Report:
    """The measures of several models on the same pictures.

    Attributes:
        size: the side of the squares in pixels.
        dtype: the dtype that the models computed in.
        skipped: the image files that could not be evaluated.
        pictures: the image files that were.
        models: the models.
        evaluations: for each of `models`, its measures of all `pictures`.
    """

    size: int
    dtype: str
    skipped: tuple[str, ...]
    pictures: tuple[Picture, ...]
    models: tuple[Model, ...]
    evaluations: tuple[Evaluation, ...]

    @property
    def has_lpips(self) -> bool:
        """Return whether LPIPS was measured."""
        return self.evaluations[0].average.reconstruction.lpips is not None

    def to_json(self) -> dict[str, Any]:
        """Convert to JSON's types; the entry "definitions" explains the others."""
        return as_json(
            {
                "versions": {"aura-jax": aura_jax.__version__, **_versions(PACKAGES)},
                "device": jax.devices()[0].device_kind,
                "size": self.size,
                "dtype": self.dtype,
                "definitions": DEFINITIONS,
                "skipped": self.skipped,
                "images": [dataclasses.asdict(picture) for picture in self.pictures],
                "models": [*map(self._model, self.models, self.evaluations)],
            }
        )

    def _model(self, model: Model, evaluation: Evaluation) -> dict[str, Any]:
        return {
            **dataclasses.asdict(model),
            "bits_per_pixel": evaluation.bits_per_pixel,
            "average": dataclasses.asdict(evaluation.average),
            "images": [
                {"image": picture.image, **dataclasses.asdict(scores)}
                for picture, scores in zip(self.pictures, evaluation.images, strict=True)
            ],
        }


def labeled(scores: Scores) -> dict[str, Quality]:
    """Return the measures of each kind of reconstruction by its label in tables and figures."""
    flips = {f"{name} flip": quality for name, quality in scores.flips.items()}
    storage = {f"stored as {dtype}": quality for dtype, quality in scores.storage.items()}
    return {"reconstruction": scores.reconstruction, **flips, **storage}


def _versions(packages: Sequence[str]) -> dict[str, str]:
    return {name: version(name) for name in packages}

"""With an averaged model, flipping a stored latent is the same as encoding the flipped image."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from aura_jax import flip_latents
from aura_jax.arrays import relative_error
from aura_jax.errors import CacheError
from aura_jax.latents import LatentSource
from aura_jax.latents.executors import LocalExecutor
from aura_jax.symmetry import FLIPS
from convert.tolerances import EQUIVARIANCE, NOT_EQUIVARIANT
from tests.cache_folder import SIZE, finished, made, make, photos, weights
from tests.photo_folder import write_photos

__all__ = ["made", "photos", "weights"]  # fixtures


def latents(folder: Path) -> np.ndarray:
    source = LatentSource(folder)
    return np.stack([source[i]["latent"] for i in range(len(source))])


def mirrored(images: Path, folder: Path, *, horizontal: bool, vertical: bool) -> Path:
    folder.mkdir()
    for path in images.iterdir():
        image = Image.open(path)
        image = ImageOps.mirror(image) if horizontal else image
        (ImageOps.flip(image) if vertical else image).save(folder / path.name)
    return folder


@pytest.mark.parametrize("equivariant", [True, False])
def test_flipped_latents_are_those_of_flipped_images(
    equivariant: bool, weights: Path, tmp_path: Path
) -> None:
    write_photos(tmp_path / "none", 2, size=SIZE)
    stored = {}
    for name, flip in FLIPS.items():
        images = tmp_path / name
        if name != "none":
            mirrored(tmp_path / "none", images, **flip)
        options = {"equivariant": equivariant, "storage_dtype": "f32", "executor": LocalExecutor}
        finished(images, tmp_path / f"{name}-latents", weights, **options)
        stored[name] = latents(tmp_path / f"{name}-latents")
    for name in ("h", "v", "hv"):
        error = relative_error(flip_latents(stored["none"], **FLIPS[name]), stored[name])
        assert error <= EQUIVARIANCE if equivariant else error > NOT_EQUIVARIANT


def test_it_is_a_setting_of_the_cache(photos: Path, weights: Path, made: Path) -> None:
    with pytest.raises(CacheError, match="equivariant"):
        make(photos, made, weights, equivariant=True)

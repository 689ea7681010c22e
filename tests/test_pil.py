"""Pillow images in and out, padding, pictures of latents, and folders in batches."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from aura_jax import ArrayError, AuraError, ImageError, flip_images, flip_latents
from aura_jax.images import (
    crop_back,
    from_pil,
    latents_to_pil,
    pad_to_multiple,
    read_batches,
    to_pil,
)
from aura_jax.symmetry import FLIPS
from tests.photo_folder import write_photos

RNG = np.random.default_rng(0)
LEVELS = RNG.integers(0, 256, (3, 24, 40, 3), np.uint8)


def test_there_and_back() -> None:
    images = [Image.fromarray(each) for each in LEVELS]
    batch = from_pil(images)
    assert (batch.shape, batch.dtype) == ((3, 24, 40, 3), np.float32)
    assert (batch.min(), batch.max()) == (-1, 1)
    for arrays in (batch, jnp.asarray(batch), LEVELS):
        assert [image.tobytes() for image in to_pil(arrays)] == [i.tobytes() for i in images]
    np.testing.assert_array_equal(from_pil(images[0]), batch[:1])
    assert to_pil(batch[0])[0].tobytes() == images[0].tobytes()


def test_modes_and_orientation_are_those_of_files(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(LEVELS[0]).save(tmp_path / "turned.png", exif=exif)
    turned = from_pil(Image.open(tmp_path / "turned.png"))
    assert turned.shape == (1, 40, 24, 3)
    np.testing.assert_array_equal(turned[0], np.rot90(from_pil(Image.fromarray(LEVELS[0]))[0], -1))
    clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    assert (from_pil(clear) == 1).all()
    gray = Image.fromarray(np.full((8, 8), 65535, np.uint16))
    assert (from_pil(gray) == 1).all()


def test_size_takes_the_largest_square() -> None:
    wide, tall = Image.new("RGB", (40, 24), "red"), Image.new("RGB", (9, 30), "red")
    assert from_pil([wide, tall], size=16).shape == (2, 16, 16, 3)
    with pytest.raises(ImageError, match=r"of sizes 40 x 24, 9 x 30; give size="):
        from_pil([wide, tall])


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        ([], "an empty sequence"),
        ([Image.new("F", (8, 8))], "image 0: floating point values"),
        ([Image.new("I", (8, 8))], "image 0: 32-bit values"),
        ([Image.new("RGB", (0, 8))], "image 0: 0 x 8, without a pixel"),
    ],
)
@pytest.mark.parametrize("size", [None, 16])
def test_what_is_no_image_is_refused(images: list, expected: str, size: int | None) -> None:
    with pytest.raises(ImageError, match=expected):
        from_pil(images, size)


@pytest.mark.parametrize("size", [0, -8])
def test_sizes_without_a_pixel_are_refused(tmp_path: Path, size: int) -> None:
    folder, images = write_photos(tmp_path / "photos", 1), np.zeros((1, 16, 16, 3), np.float32)
    for call in (
        lambda: from_pil(Image.new("RGB", (8, 8)), size),
        lambda: [*read_batches(folder, 1, size)],
        lambda: pad_to_multiple(images, size),
        lambda: crop_back(images, (size, 8)),
    ):
        with pytest.raises(ImageError, match=r"expected .* 1 or more"):
            call()


def test_arrays_without_height_and_width_are_refused() -> None:
    for call in (pad_to_multiple, lambda images: crop_back(images, (8, 8))):
        with pytest.raises(ArrayError, match=r"of shape \(8, 8\): expected \[..., height, width"):
            call(np.zeros((8, 8)))


@pytest.mark.parametrize("places", ["", ["photos", ""], []])
def test_empty_places_are_not_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, places: str | list[str]
) -> None:
    write_photos(tmp_path / "photos", 1)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ImageError, match=r"'': expected the path of|an empty list of folders"):
        next(read_batches(places, 1))


@pytest.mark.parametrize("draw", [to_pil, latents_to_pil])
def test_what_cannot_be_drawn_is_refused(draw) -> None:
    for wrong in (np.zeros((2, 3)), np.zeros((0, 8, 8, 3), np.float32)):
        with pytest.raises(ArrayError):
            draw(wrong)
    with pytest.raises(ImageError, match="NaN or infinite"):
        draw(np.full((8, 8, 3), np.nan, np.float32))


@pytest.mark.parametrize("flip", FLIPS.values(), ids=FLIPS)
def test_padding_is_removed_from_flipped_images_too(flip: dict[str, bool]) -> None:
    images = from_pil([Image.fromarray(each[:21, :35]) for each in LEVELS])
    padded = pad_to_multiple(images)
    assert padded.shape == (3, 24, 40, 3)
    np.testing.assert_array_equal(padded, pad_to_multiple(jnp.asarray(images)))
    back = crop_back(flip_images(padded, **flip), (21, 35), **flip)
    np.testing.assert_array_equal(back, flip_images(images, **flip))
    with pytest.raises(ImageError, match="images of 40 x 24 cannot be cropped to 41 x 24"):
        crop_back(padded, (24, 41))


@pytest.mark.parametrize("flip", FLIPS.values(), ids=FLIPS)
def test_pictures_of_latents_flip_like_images(flip: dict[str, bool]) -> None:
    z = RNG.standard_normal((2, 6, 9, 16)).cumsum(axis=1).cumsum(axis=2).astype(np.float32)
    before, after = (latents_to_pil(each) for each in (z, flip_latents(z, **flip)))
    assert [picture.size for picture in before] == [(72, 48)] * 2
    for a, b in zip(before, after, strict=True):
        assert np.asarray(a).std() > 20
        flipped = flip_images(np.asarray(a), **flip).astype(int)
        assert np.abs(flipped - np.asarray(b)).max() <= 1
    assert latents_to_pil(np.zeros((4, 4, 16), np.float32))[0].getextrema() == ((128, 128),) * 3


def test_a_folder_in_batches(tmp_path: Path) -> None:
    folder = write_photos(tmp_path / "photos", 5)
    batches = [*read_batches(folder, 2, size=16)]
    assert [images.shape for images, _ in batches] == [(2, 16, 16, 3)] * 2 + [(1, 16, 16, 3)]
    names = [name for _, names in batches for name in names]
    assert names == sorted(map(str, folder.iterdir()))
    Image.new("RGB", (9, 7)).save(folder / "other.png")
    with pytest.raises(ImageError, match=r"other\.png: 9 x 7 in a batch of .*; give size="):
        next(read_batches([folder], 8))
    with pytest.raises(AuraError, match="batches of 0 images"):
        next(read_batches(folder, 0))

"""Photographs of every mode, orientation and size become the same RGB floats, and come back."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from aura_jax import ImageError
from aura_jax.images.grid import CELL, LABEL, MARGIN, grid
from aura_jax.images.io import write_image
from aura_jax.images.quality import psnr
from aura_jax.images.transforms import crop, pad_to_multiple, to_uint8
from tests.photo_folder import read_image

RGB = np.random.default_rng(0).integers(0, 256, (9, 14, 3), dtype=np.uint8)


def saved(path: Path, image: Image.Image, **options: Any) -> Path:
    image.save(path, **options)
    return path


def test_8_bits_come_back_exactly(tmp_path: Path):
    pixels = read_image(saved(tmp_path / "rgb.png", Image.fromarray(RGB)))
    assert pixels.dtype == np.float32
    np.testing.assert_allclose(pixels, (RGB / 255 - 0.5) / 0.5, atol=1e-6)
    np.testing.assert_array_equal(to_uint8(pixels), RGB)


def test_rounding_is_to_the_nearest_level_and_clamped():
    levels = np.array([[[-1.5, -1, 1.5], [127.4 / 127.5 - 1, 127.6 / 127.5 - 1, 0.9999]]])
    np.testing.assert_array_equal(to_uint8(levels), [[[0, 0, 255], [127, 128, 255]]])


def test_every_mode_becomes_rgb(tmp_path: Path):
    image = Image.fromarray(RGB)
    for mode in ("L", "P", "1", "CMYK", "RGBA", "LA", "YCbCr"):
        path = saved(tmp_path / f"{mode}.tiff", image.convert(mode))
        assert read_image(path).shape == (9, 14, 3), mode
    gray = read_image(tmp_path / "L.tiff")
    np.testing.assert_array_equal(gray[..., 0], gray[..., 2])
    np.testing.assert_array_equal(to_uint8(gray)[..., 1], np.asarray(image.convert("L")))


def test_16_bits_keep_their_depth(tmp_path: Path):
    values = np.array([[0, 1, 256, 65535]], np.uint16).repeat(2, axis=0)
    for name in ("deep.png", "deep.tiff"):
        pixels = read_image(saved(tmp_path / name, Image.fromarray(values)))
        np.testing.assert_allclose(pixels[0, :, 1], values[0] / 32767.5 - 1, atol=1e-6)


def test_transparency_is_laid_on_white(tmp_path: Path):
    rgba = np.dstack([RGB, np.full((9, 14), 255, np.uint8)])
    rgba[0, 0, 3], rgba[0, 1] = 0, (0, 0, 0, 127)
    pixels = to_uint8(read_image(saved(tmp_path / "a.png", Image.fromarray(rgba))))
    np.testing.assert_array_equal(pixels[0, 0], [255] * 3)
    np.testing.assert_array_equal(pixels[0, 1], [128] * 3)
    np.testing.assert_array_equal(pixels[1:], RGB[1:])
    palette = Image.fromarray(np.zeros((8, 8), np.uint8), "P")
    palette.putpalette([9, 9, 9])
    pixels = read_image(saved(tmp_path / "p.png", palette, transparency=0))
    np.testing.assert_array_equal(pixels, np.ones((8, 8, 3)))


def test_the_first_frame_of_an_animation(tmp_path: Path):
    frames = [Image.fromarray(np.full((8, 8, 3), level, np.uint8)) for level in (10, 200)]
    path = saved(tmp_path / "a.gif", frames[0], save_all=True, append_images=frames[1:])
    assert to_uint8(read_image(path)).max() == 10


def test_crops_are_the_model_cards():
    pixels = to_float(RGB)
    box = Image.fromarray(RGB).crop((2, 2, 2 + 5, 2 + 5))
    np.testing.assert_array_equal(to_uint8(crop(pixels, 5, 2)), np.asarray(box))
    np.testing.assert_array_equal(crop(pixels, 5), pixels[2:7, 4:9])
    for size, offset in ((10, None), (5, 5), (9, 6), (0, 0)):
        with pytest.raises(ImageError, match=rf"crop of {size} x {size} .* in 14 x 9"):
            crop(pixels, size, offset)


def test_padding_repeats_the_far_edges():
    padded = pad_to_multiple(to_float(RGB), 8)
    assert padded.shape == (16, 16, 3)
    np.testing.assert_array_equal(padded[:9, :14], to_float(RGB))
    np.testing.assert_array_equal(padded[9:], padded[8:9].repeat(7, axis=0))
    with pytest.raises(ImageError, match="an image of 14 x 7: each side needs 8 pixels"):
        pad_to_multiple(to_float(RGB)[:7], 8)


def test_psnr_is_the_formula():
    noisy = RGB.astype(int)[..., ::-1].astype(np.uint8)
    mse = np.mean((RGB.astype(float) - noisy) ** 2)
    assert psnr(RGB, noisy) == pytest.approx(10 * np.log10(255**2 / mse), rel=1e-5)
    assert psnr(RGB, RGB) == np.inf


def test_the_grid_holds_every_image_unchanged():
    wide = np.zeros((4, 3 * CELL, 3), np.uint8)  # scaled down to CELL, the width of a column then
    canvas = grid("title", [[("a", RGB), ("b", RGB[::-1])], [("wide", wide)]])
    top = 2 * (MARGIN + LABEL) - MARGIN
    np.testing.assert_array_equal(canvas[top : top + 9, MARGIN : MARGIN + 14], RGB)
    second = 2 * MARGIN + CELL
    np.testing.assert_array_equal(canvas[top : top + 9, second : second + 14], RGB[::-1])
    assert canvas.shape[1] == 3 * MARGIN + 2 * CELL


def test_labels_of_small_images_do_not_overlap():
    label = "a label that is wider than its image"
    one, two = (grid("", [[(label, RGB)] * n]) for n in (1, 2))
    width = one.shape[1] - MARGIN
    assert width > RGB.shape[1] + 200
    rows = slice(MARGIN + LABEL, MARGIN + 2 * LABEL)
    np.testing.assert_array_equal(two[rows, width:][:, : one.shape[1]], one[rows])


def broken_files(folder: Path) -> dict[str, Path]:
    """Files that are not images, by the expected error."""
    whole = saved(folder / "whole.png", Image.fromarray(RGB)).read_bytes()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    jpeg = saved(folder / "whole.jpg", Image.fromarray(noise)).read_bytes()
    contents = {
        "not an image": b"hello",
        "cut": whole[: len(whole) // 2],
        "truncated": jpeg[: len(jpeg) // 2],
        "zero": b"",
    }
    paths = {}
    for name, content in contents.items():
        paths[name] = folder / f"{name}.png"
        paths[name].write_bytes(content)
    paths["No such file"] = folder / "nowhere.png"
    paths["directory"] = folder
    paths["floating point"] = saved(folder / "f.tiff", Image.fromarray(np.ones((8, 8), np.float32)))
    return paths


def test_files_that_are_not_images_are_named(tmp_path: Path):
    for name, path in broken_files(tmp_path).items():
        with pytest.raises(ImageError) as error:
            read_image(path)
        assert str(error.value).startswith(f"{path}: "), name
        assert "\n" not in str(error.value)


def test_any_error_of_a_decoder_becomes_an_image_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def decode(*arguments: object) -> None:
        raise RuntimeError("decoding of color planes failed")

    path = saved(tmp_path / "whole.png", Image.fromarray(RGB))
    monkeypatch.setattr("aura_jax.images.decode._rgb", decode)
    with pytest.raises(ImageError, match=r"whole\.png: cannot be read as an image: decoding of"):
        read_image(path)


def test_images_are_written_whole(tmp_path: Path):
    for ending in (".png", ".PNG", ".webp", ".jpg"):
        path = tmp_path / f"image{ending}"
        write_image(path, RGB)
        with Image.open(path) as image:
            assert image.size == (14, 9)
    np.testing.assert_array_equal(to_uint8(read_image(tmp_path / "image.png")), RGB)


def test_an_image_too_large_for_its_format(tmp_path: Path):
    with pytest.raises(ImageError, match=r"wide\.webp: cannot be written"):
        write_image(tmp_path / "wide.webp", np.zeros((1, 20_000, 3), np.uint8))
    assert list(tmp_path.iterdir()) == []


def to_float(pixels: np.ndarray) -> np.ndarray:
    return (pixels / 127.5 - 1).astype(np.float32)

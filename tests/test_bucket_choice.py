"""The buckets of an area, the bucket of an image, and the part of the image that fills it."""

from itertools import product

import numpy as np
import pytest
from PIL import Image

from aura_jax.errors import CacheError, ImageError
from aura_jax.images.transforms import covering
from aura_jax.latents.buckets import Bucket, check_buckets, nearest, of_area


def parsed(*texts: str) -> list[Bucket]:
    return [Bucket.parse(text) for text in texts]


def test_buckets_of_512_are_those_of_kohyas_trainer() -> None:
    """kohya-ss/sd-scripts: make_bucket_resolutions((512, 512), 256, 1024, 64)."""
    upright = ["256x832", "256x896", "256x960", "256x1024", "320x704", "320x768", "384x640"]
    wide = ["576x448", "640x384", "704x320", "768x320", "832x256", "896x256", "960x256", "1024x256"]
    assert [*map(str, of_area(512))] == [*upright, "448x576", "512x512", *wide]


def test_buckets_of_1024_have_those_of_sdxl() -> None:
    found = {*map(str, of_area(1024))}
    sdxl = ["512x2048", "640x1536", "768x1344", "832x1216", "896x1152", "1024x1024", "1152x896"]
    assert {*sdxl, "1216x832", "1344x768", "1536x640", "2048x512"} <= found
    assert len(found) == 33
    # The rest of SDXL's list: for these widths, or heights, it has two sizes.
    assert not found & {"832x1152", "896x1088", "960x1024", "704x1344"}


@pytest.mark.parametrize("side", [64, 128, 192, 256, 320, 1024, 2048])
def test_buckets_of_any_area(side: int) -> None:
    buckets = of_area(side)
    assert {Bucket(width, height) for height, width in buckets} == {*buckets}
    assert Bucket(side, side) in buckets
    assert [*buckets] == sorted(buckets, key=lambda bucket: (bucket.width, bucket.height))
    for height, width in buckets:
        assert height % 8 == width % 8 == 0
        assert height * width <= side**2
        assert 1 / 4 <= width / height <= 4


@pytest.mark.parametrize("side", [0, -64, 63, 100, 1000])
def test_areas_are_multiples_of_64(side: int) -> None:
    with pytest.raises(CacheError, match=f"^--area {side}: expected the side of a square in pixel"):
        of_area(side)


@pytest.mark.parametrize(
    ("image", "bucket"),
    [
        ("500x375", "288x224"),  # 4:3; its quotient to 288:224 is 1.037, to 320:192 1.25
        ("375x500", "224x288"),
        ("3000x2000", "320x192"),  # 3:2 is nearer to 5:3 than to 9:7
        ("1920x1080", "320x192"),
        ("256x256", "256x256"),
        ("10x10", "256x256"),  # small images are scaled up
        ("4000x500", "512x128"),  # at the limit: half of it is left
    ],
)
def test_the_nearest_ratio_is_chosen(image: str, bucket: str) -> None:
    assert nearest(of_area(256), Bucket.parse(image)) == Bucket.parse(bucket)


def test_ties_go_to_the_largest_area_and_then_to_the_widest() -> None:
    square = Bucket(100, 100)
    assert str(nearest(parsed("64x32", "32x64"), square)) == "64x32"
    assert str(nearest(parsed("64x32", "64x128", "32x64"), square)) == "64x128"
    assert str(nearest(parsed("64x64", "256x256", "128x128"), square)) == "256x256"


def test_images_of_which_less_than_half_would_be_left_fit_nowhere() -> None:
    with pytest.raises(ImageError, match=r"4008 x 500 pixels: the bucket with the .*, 512x128, wo"):
        nearest(of_area(256), Bucket(500, 4008))


@pytest.mark.parametrize("text", ["", "256", "256x", "x256", "0x256", "256x256x3", "-8x8", "8 x 8"])
def test_texts_that_are_no_buckets(text: str) -> None:
    with pytest.raises(CacheError, match=r"expected WIDTHxHEIGHT in pixels, such as 320x192"):
        Bucket.parse(text)


def test_buckets_that_the_model_cannot_encode() -> None:
    with pytest.raises(CacheError, match=r"^--bucket 100x64: expected positive multiples of 8$"):
        check_buckets(parsed("64x64", "100x64"), 8)
    with pytest.raises(CacheError, match=r"^--bucket 64x32: given twice$"):
        check_buckets(parsed("64x32", "32x64", "64x32"), 8)


def test_an_image_covers_its_bucket_without_being_stretched() -> None:
    """A ramp that rises by 1 each pixel rises by the scale's inverse after scaling, both ways."""
    ramp = np.broadcast_to(np.arange(200, dtype=np.uint8)[:, None], (200, 320))
    for image in (ramp, np.ascontiguousarray(ramp.T)):
        pixels, cut = covering(Image.fromarray(image).convert("RGB"), (80, 80))
        height, width = image.shape
        scale = 80 / min(image.shape)
        assert cut == pytest.approx(
            ((height * scale - 80) / 2, (width * scale - 80) / 2) * 2, abs=0.01
        )
        axis = 0 if image is ramp else 1
        middle = pixels.astype(float).mean(axis=(1 - axis, 2))
        np.testing.assert_allclose(np.diff(middle)[8:-8], 1 / scale, atol=1)
        np.testing.assert_allclose(middle[40] - middle[20], 20 / scale, atol=1)
        np.testing.assert_allclose(middle.mean(), image.mean(), atol=1)


def test_flipped_images_give_flipped_pixels() -> None:
    rng = np.random.default_rng(0)
    for height, width, tall, wide in product((21, 64, 101), (37, 80, 200), (16, 48), (24, 64)):
        image = Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))
        pixels, _ = covering(image, (tall, wide))
        turned, _ = covering(image.transpose(Image.Transpose.ROTATE_180), (tall, wide))
        np.testing.assert_array_equal(turned[::-1, ::-1], pixels)

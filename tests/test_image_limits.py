"""Image files that could fill the memory, never end or run other decoders are refused at once."""

import os
import socket
import warnings
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from aura_jax import ImageError
from aura_jax.images import formats, readers
from aura_jax.images.formats import image_format
from aura_jax.images.io import decode_8_bit, is_image_name
from aura_jax.images.options import Decoding
from aura_jax.images.readers import ImageFile
from aura_jax.images.transforms import square
from tests.png_files import chunk
from tests.tiff_files import tiff_bytes

SMALL = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 12, 3), np.uint8))


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "AVIF"])
def test_pixels_are_limited_before_they_are_decoded(kind: str) -> None:
    data = saved(SMALL, kind)
    assert decode_8_bit(data, "x", Decoding(max_pixels=96)).size == (12, 8)
    with pytest.raises(ImageError, match=r"^x: 12 x 8 pixels, over the limit of 95; .*--max-pixe"):
        decode_8_bit(data, "x", Decoding(max_pixels=95))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_limits_of_pillow_do_not_count(
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its own limit warns in some programs and raises an error in others."""
    data = saved(SMALL, kind)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 60)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert square(decode_8_bit(data, "x"), 4).shape == (4, 4, 3)


def test_large_sides_are_refused_at_once() -> None:
    sides = (20_000).to_bytes(4) * 2
    header = chunk(b"IHDR", sides + b"\1\0\0\0\0")
    big = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    with pytest.raises(ImageError, match="20000 x 20000 pixels, over the limit of 200,000,000"):
        decode_8_bit(big, "x")
    tiff = tiff_bytes([bytes(4)], 1, [8], 1, t256=[60_000], t257=[60_000])
    with pytest.raises(ImageError):
        decode_8_bit(tiff, "x")
    assert decode_8_bit(saved(Image.new("L", (20_000, 1)), "PNG"), "x").size == (20_000, 1)
    assert decode_8_bit(saved(Image.new("L", (1, 1)), "PNG"), "x").size == (1, 1)


def test_only_formats_that_are_meant_are_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """The names of files do not matter: an EPS file named .png must not start Ghostscript."""

    def run(*arguments: object, **options: object) -> None:
        pytest.fail("another decoder was started")

    monkeypatch.setattr("subprocess.Popen", run)
    monkeypatch.setattr(Image, "open", run)
    for kind in ("EPS", "TGA", "PCX", "ICO"):
        with pytest.raises(ImageError, match=r"x\.png: (not an image|the format)"):
            decode_8_bit(saved(SMALL, kind), "x.png")
    for head in (
        b"8BPS\0\1",
        b"SIMPLE  =",
        b"\x89HDF\r\n\x1a\n",
        b"%PDF-1.4",
        b"GRIB",
        b"\0\0\1\xba",
    ):
        with pytest.raises(ImageError, match=r"x\.png: (not an image|the format)"):
            decode_8_bit(head + bytes(99), "x.png")


def test_names_of_images() -> None:
    for name in ("a.jpg", "a.JPEG", "a.png", "a.webp", "a.tif", "a.avif", "a.jp2", "a.gif"):
        assert is_image_name(Path(name)), name
    for name in ("a.h5", "a.pdf", "a.mpg", "a.eps", "a.psd", "a.fits", "a.tar", "a", "a.txt"):
        assert not is_image_name(Path(name)), name


def test_formats_are_known_by_their_first_bytes() -> None:
    for kind in ("JPEG", "PNG", "TIFF", "BMP", "GIF", "PPM", "AVIF"):
        assert image_format(saved(SMALL, kind)[: formats.HEAD]) == kind
    heads = {
        b"\0\0\0\x18ftypheic\0\0\0\0mif1heic": "HEIC",
        b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic": "HEIC",
        b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf": "AVIF",
        b"\xff\x0a\xfa\x1f": "JPEG XL",
        b"\0\0\0\x0cJXL \r\n\x87\n": "JPEG XL",
        b"II*\0\x10\0\0\0CR\2\0": "camera raw",
        b"FUJIFILMCCD-RAW": "camera raw",
        b"8BPS\0\1": "Photoshop",
        b"hello": None,
        b"": None,
    }
    for head, name in heads.items():
        assert image_format(head) == name


def test_heic_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aura_jax.images.opening.can_open", lambda name: name != "HEIC")
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
    with pytest.raises(ImageError, match=r'^a\.jpg: .*pip install "aura-jax\[heif\]"'):
        decode_8_bit(heic, "a.jpg")


def test_files_that_never_end_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "pipe.png").symlink_to("pipe")
    (tmp_path / "device.png").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket.png"))
        for name in ("pipe.png", "device.png", "socket.png"):
            with pytest.raises(ImageError, match=rf"{name}: is a device"):
                ImageFile(tmp_path / name).pixels()


def test_bytes_are_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sparse = tmp_path / "sparse.png"
    with sparse.open("wb") as file:
        file.truncate(8 * 2**30)
    with pytest.raises(ImageError, match=r"sparse\.png: over 1,073,741,824 bytes"):
        ImageFile(sparse).pixels()
    monkeypatch.setattr(readers, "MAX_BYTES", 100)
    sparse.write_bytes(bytes(200))
    for file in (ImageFile(sparse), ImageFile(sparse, "a.png", 10, 101)):
        with pytest.raises(ImageError, match="over 100 bytes"):
            file.pixels()


def test_a_pipe_that_is_given_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the shell: aura-jax encode <(cat x.png)."""
    for limit, readable in ((2**20, True), (100, False)):
        monkeypatch.setattr(readers, "MAX_BYTES", limit)
        source, target = os.pipe()
        with os.fdopen(target, "wb") as file:
            file.write(saved(SMALL, "PNG"))
        place = ImageFile(Path(f"/dev/fd/{source}"))
        if readable:
            assert place.pixels().shape == (8, 12, 3)
        else:
            with pytest.raises(ImageError, match="over 100 bytes"):
                place.pixels()
        os.close(source)


def test_files_that_are_cut_short_are_named_so() -> None:
    """Pillow's own reason is about a buffer and an offset."""
    for data, reason in ((b"", "an empty file"), (saved(SMALL, "PNG")[:33], "truncated")):
        with pytest.raises(ImageError, match=f"^x: {reason}"):
            decode_8_bit(data, "x")

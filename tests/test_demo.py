"""The page of `aura-jax demo` through Gradio's client, and the arrays behind it."""

import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, wait
from io import BytesIO
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from gradio_client.utils import QueueError
from PIL import Image

import aura_jax
from aura_jax import AuraEquiVAE, AuraError, flip_images
from aura_jax.demo.experiment import Checkpoint, load_checkpoint
from aura_jax.images.readers import PHOTOGRAPH
from aura_jax.photo_latents import decode_photo, read_latents
from aura_jax.runtime.codec import Codec
from aura_jax.symmetry import FLIPS
from tests.demo_server import SIZE, demo_server, expected, two_checkpoints, write_noise


@pytest.fixture(scope="module")
def checkpoints() -> dict[str, Checkpoint]:
    return two_checkpoints()


@pytest.fixture(scope="module")
def address(
    checkpoints: dict[str, Checkpoint], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    with demo_server(tmp_path_factory.mktemp("served"), checkpoints) as address:
        yield address


@pytest.fixture
def visit(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Client]:
    """Return a function that starts a visit of the page."""
    # The client of Gradio 6.31 leaves an empty folder there for each file that it downloads.
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    # It reads all certificates of the system for each request, even to this machine.
    options = {"verbose": False, "ssl_verify": False, "download_files": tmp_path / "downloads"}
    return lambda: Client(address, **options)


def pixels(shown: Any) -> np.ndarray:
    with Image.open(shown if isinstance(shown, str) else shown["path"]) as image:
        return np.asarray(image)


def test_signs_make_the_flip(checkpoints: dict[str, Checkpoint]):
    none = expected(checkpoints["small"], PHOTOGRAPH, "none")
    assert none.naive is none.signed
    for flip in ("h", "v", "hv"):
        found = expected(checkpoints["small"], PHOTOGRAPH, flip)
        np.testing.assert_array_equal(found.target, flip_images(none.target, **FLIPS[flip]))
        assert found.signed.psnr > none.signed.psnr - 0.5
        assert found.naive.psnr < found.signed.psnr - 3


def test_an_averaged_checkpoint_is_averaged_over_the_flips(
    tiny_vae: AuraEquiVAE, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    models: list[AuraEquiVAE] = []

    class Recorder(Codec):
        def __init__(self, vae: AuraEquiVAE):
            models.append(vae)

    monkeypatch.setattr("aura_jax.demo.experiment.Codec", Recorder)
    aura_jax.save(tiny_vae, tmp_path / "tiny.st")
    for averaged in (False, True):
        load_checkpoint(str(tmp_path / "tiny.st"), "float32", averaged=averaged)
        assert models[-1].encoder.averaged == models[-1].decoder.averaged == averaged


def test_a_flip_moves_the_same_noise(checkpoints: dict[str, Checkpoint]):
    clean, *noisy = (
        expected(checkpoints["small"], PHOTOGRAPH, flip, sigma)
        for flip, sigma in (("none", 0.0), ("none", 0.5), ("none", 0.5), ("h", 0.5))
    )
    z, again, flipped = (each.latent for each in noisy)
    np.testing.assert_array_equal(z.values, again.values)
    np.testing.assert_array_equal(z.flipped(FLIPS["h"], 8).values, flipped.values)
    assert noisy[0].signed.psnr < clean.signed.psnr - 1


def test_an_uploaded_photograph_is_flipped(
    visit: Callable[[], Client], checkpoints: dict[str, Checkpoint], tmp_path: Path
):
    client, photo = visit(), tmp_path / "my photo.png"
    write_noise(photo, 0)
    client.predict("small", handle_file(photo), api_name="/open")
    target, _, caption, signed, _, naive, file = client.predict(True, True, 0.1, api_name="/show")
    outcome = expected(checkpoints["small"], photo, "hv", 0.1)
    np.testing.assert_array_equal(pixels(target), outcome.target)
    np.testing.assert_array_equal(pixels(signed), outcome.signed.image)
    np.testing.assert_array_equal(pixels(naive), outcome.naive.image)
    assert f"{outcome.signed.psnr:.1f} dB" in caption
    stored = read_latents(Path(file))
    assert stored.weights == checkpoints["small"].fingerprint
    assert Path(file).name == "my photo.safetensors"
    image = decode_photo(checkpoints["small"].codec, stored.latents["my photo"])
    np.testing.assert_array_equal(image, outcome.signed.image)


def test_visitors_see_their_own_photographs(
    visit: Callable[[], Client], checkpoints: dict[str, Checkpoint], tmp_path: Path
):
    clients, photos = (visit(), visit()), (tmp_path / "a" / "same.png", tmp_path / "b" / "same.png")
    for seed, (client, photo) in enumerate(zip(clients, photos, strict=True)):
        photo.parent.mkdir()
        write_noise(photo, seed)
        client.predict("small", handle_file(photo), api_name="/open")
    clients[1].predict("bright", api_name="/encode")
    jobs = [client.submit(True, False, 0, api_name="/show") for client in clients]
    for job, photo, weights in zip(jobs, photos, ("small", "bright"), strict=True):
        outcome = expected(checkpoints[weights], photo, "h")
        np.testing.assert_array_equal(pixels(job.result()[0]), outcome.target)
        np.testing.assert_array_equal(pixels(job.result()[3]), outcome.signed.image)


def test_files_that_cannot_be_opened_are_sentences(
    visit: Callable[[], Client], tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    write_noise(tmp_path / "whole.png", 0)
    write_noise(tmp_path / "large.png", 0, size=600)
    whole = (tmp_path / "whole.png").read_bytes()
    client = visit()
    for name, data, message in (
        ("text.png", b"hello", "text.png: not an image in a known format"),
        ("<i>.png", b"hello", "i.png: not an image"),  # Gradio cleans the name
        ("cut.png", whole[:-100], "cut.png: "),
        ("photo.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "photo.heic: "),
        ("large.png", None, "large.png: 600 x 600 pixels, over the limit of 300,000"),
        ("float.tiff", _float_tiff(), "float.tiff: .*range is not known"),
    ):
        if data is not None:
            (tmp_path / name).write_bytes(data)
        with pytest.raises(AppError, match=message):
            client.predict("small", handle_file(tmp_path / name), api_name="/open")
    with pytest.raises(AppError, match="no photograph is open: upload one"):
        client.predict(True, False, 0, api_name="/show")
    assert "Traceback" not in "".join(capfd.readouterr())


def test_samples_of_16_bits_and_orientation_are_read(
    visit: Callable[[], Client], checkpoints: dict[str, Checkpoint], tmp_path: Path
):
    deep, turned = tmp_path / "deep.tiff", tmp_path / "turned.jpg"
    rows = np.arange(SIZE, dtype=np.uint16)[:, None] * np.ones(SIZE, np.uint16) * 1000
    Image.fromarray(rows).save(deep)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.stack([rows // 257] * 3, -1).astype(np.uint8)).save(turned, exif=exif)
    client = visit()
    for photo in (deep, turned):
        client.predict("small", handle_file(photo), api_name="/open")
        shown = pixels(client.predict(False, False, 0, api_name="/show")[0]).astype(int)
        grows = (
            shown[-1, 0, 0] - shown[0, 0, 0] if photo == deep else shown[0, 0, 0] - shown[0, -1, 0]
        )
        assert grows > 200


def test_a_full_queue_is_a_sentence(visit: Callable[[], Client], monkeypatch: pytest.MonkeyPatch):
    client, go = visit(), threading.Event()
    client.predict("small", api_name="/open_1")

    def blocked(*_: object) -> NoReturn:
        go.wait(30)
        raise AuraError("waited")

    monkeypatch.setattr("aura_jax.demo.actions.try_flip", blocked)
    jobs = [client.submit(False, False, 0, api_name="/show").future for _ in range(19)]
    ended, _ = wait(jobs, timeout=20, return_when=FIRST_COMPLETED)
    go.set()
    wait(jobs, timeout=20)
    with pytest.raises(QueueError, match="full"):
        ended.pop().result()


def _float_tiff() -> bytes:
    data = BytesIO()
    Image.fromarray(np.zeros((SIZE, SIZE), np.float32)).save(data, "TIFF")
    return data.getvalue()

"""The measures of an evaluation, their averages, and the report."""

import io
import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

import aura_jax
from aura_jax import ArrayError, AuraConfig, AuraEquiVAE, ImageError
from aura_jax.evaluation import (
    Evaluation,
    Model,
    Picture,
    Quality,
    Report,
    Scores,
    bits_per_pixel,
    evaluate,
    mean,
)
from aura_jax.evaluation.figure import draw
from aura_jax.evaluation.folder import reconstruction_folders
from aura_jax.images.transforms import Pixels8, to_float, to_uint8
from tests.photo_folder import random_crops
from tests.test_quality import WANG

FLIPS = {  # the axes of [h, w, C] and the signs of channels, written out
    "h": ((1,), (1,) * 12 + (-1, -1, 1, 1)),
    "v": ((0,), (1,) * 12 + (1, 1, -1, -1)),
    "hv": ((0, 1), (1,) * 12 + (-1, -1, -1, -1)),
}


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return random_crops(batch=2, size=16)


@pytest.fixture(scope="module")
def evaluation(tiny_vae: AuraEquiVAE, images: np.ndarray) -> Evaluation:
    return evaluate(tiny_vae, images, flips=True, storage=True)


def decoded(vae: AuraEquiVAE, z: np.ndarray) -> Pixels8:
    return to_uint8(np.asarray(aura_jax.decode(vae, z[None]))[0])


def check(quality: Quality, image: Pixels8, original: Pixels8) -> None:
    """Compare with scikit-image's measures; here and there a level may round the other way."""
    decibels = peak_signal_noise_ratio(original, image, data_range=255)
    assert quality.psnr_db == pytest.approx(decibels, abs=0.01)
    similarity = structural_similarity(original, image, data_range=255, **WANG)
    assert quality.ssim == pytest.approx(similarity, abs=1e-3)


def test_measures_match_independent_formulas(
    tiny_vae: AuraEquiVAE, images: np.ndarray, evaluation: Evaluation
):
    assert len(evaluation.images) == len(images)
    for x, scores in zip(images, evaluation.images, strict=True):
        z = np.asarray(aura_jax.encode(tiny_vae, to_float(x)[None]))[0]
        check(scores.reconstruction, decoded(tiny_vae, z), x)
        assert list(scores.flips) == list(FLIPS)
        for name, (axes, signs) in FLIPS.items():
            flipped = np.flip(z, axes) * np.array(signs, np.float32)[None, None]
            check(scores.flips[name], decoded(tiny_vae, flipped), np.flip(x, axes))
        rounded = {
            "bfloat16": np.asarray(jnp.asarray(z, jnp.bfloat16), np.float32),
            "float32": z,
            "int8": np.rint(z / (8 / 127)).astype(np.float32) * np.float32(8 / 127),
        }
        assert list(scores.storage) == list(rounded)
        for name, kept in rounded.items():
            check(scores.storage[name], decoded(tiny_vae, kept), x)
        assert scores.storage["float32"] == scores.reconstruction
        assert scores.storage["int8"] != scores.reconstruction


def test_floats_are_rounded_to_8_bits_first(
    tiny_vae: AuraEquiVAE, images: np.ndarray, evaluation: Evaluation
):
    off = to_float(images) + np.float32(0.4 / 127.5)
    assert evaluate(tiny_vae, jnp.asarray(off)).images[1].reconstruction == (
        evaluation.images[1].reconstruction
    )


def test_only_what_was_asked_for_is_measured(tiny_vae: AuraEquiVAE, images: np.ndarray):
    scores = evaluate(tiny_vae, [images[0]]).average
    assert (scores.flips, scores.storage, scores.reconstruction.lpips) == ({}, {}, None)


def test_all_flips_of_an_averaged_model_are_equal(tiny_vae: AuraEquiVAE, images: np.ndarray):
    (scores,) = evaluate(aura_jax.equivariant(tiny_vae), images[:1], flips=True).images
    for quality in scores.flips.values():
        assert quality.psnr_db == pytest.approx(scores.reconstruction.psnr_db, abs=1e-3)


def test_averages():
    average = mean([planted(20.0, 0.5), planted(23.0, 0.75)])
    assert average.reconstruction == Quality(21.5, 0.625, None)
    assert type(average.reconstruction.psnr_db) is float  # prints as a number
    assert average.flips["hv"] == Quality(np.inf, 1.0, None)
    assert average.storage["int8"].psnr_db == 21.5
    with pytest.raises(ImageError, match="no images to evaluate"):
        mean([])


def test_bits_per_pixel():
    assert bits_per_pixel(AuraConfig()) == {"bfloat16": 4.0, "float32": 8.0, "int8": 2.0}
    half = AuraConfig(32, (1, 2), 1, 8)
    assert bits_per_pixel(half) == {"bfloat16": 32.0, "float32": 64.0, "int8": 16.0}


def test_wrong_images_are_refused(tiny_vae: AuraEquiVAE, images: np.ndarray):
    for wrong, message in (
        (images, r"expected \[height, width, 3\]"),
        (images[0, ..., :2], "expected 3 channels"),
        (images[0].astype(np.int32), "expected .*uint8"),
        (images[0].astype(np.float32), r"expected about \[-1, 1\]"),
        (images[0, :8], "expected one image or more, with sides of 16 or more"),
        (np.zeros((17, 16, 3), np.uint8), "expected multiples of 2"),
    ):
        with pytest.raises(ArrayError, match=message):
            evaluate(tiny_vae, [wrong])


def test_a_report_is_strict_json_and_defines_its_measures(tmp_path: Path):
    document = planted_report(tmp_path, "a", "b/$_$").to_json()
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert document["skipped"] == ["bad.png"]
    assert document["images"][1] == {"image": "x/b.jpg", "width": 90, "height": 70, "png": "b.png"}
    first = document["models"][0]
    assert (first["weights"], first["fingerprint"], first["folder"]) == (
        *("a", "f" * 64, "reconstruction/1_a"),
    )
    assert first["average"]["reconstruction"] == {"psnr_db": 21.5, "ssim": 0.625, "lpips": None}
    assert first["average"]["flips"]["h"]["psnr_db"] is None
    assert first["images"][1]["image"] == "x/b.jpg"
    assert first["images"][1]["reconstruction"]["psnr_db"] == 23
    assert document["versions"].keys() >= {"aura-jax", "jax", "dm-pix"}
    measured = {*first["average"], *first["average"]["reconstruction"], "bits_per_pixel", "dtype"}
    assert measured <= document["definitions"].keys()


def test_folders_of_reconstructions_differ_whatever_the_names():
    assert reconstruction_folders(["fal/AuraEquiVAE"]) == ["reconstruction"]
    names = ["a/b", "a_b", "../写", "x" * 300]
    folders = reconstruction_folders(names)
    assert folders[:3] == ["reconstruction/1_a_b", "reconstruction/2_a_b", "reconstruction/3_.._"]
    assert len(folders[3]) < 100


def test_the_figure_shows_something_whatever_the_numbers(tmp_path: Path):
    png = draw(planted_report(tmp_path, "_" + "x" * 200, "$_$\udcff"), tmp_path)
    with Image.open(io.BytesIO(png)) as image:
        assert image.format == "PNG"
        assert image.width > 1000
        assert image.convert("RGB").getcolors(100) is None, "at most 100 colors"


def planted(psnr: float, ssim: float) -> Scores:
    far, equal = Quality(psnr, ssim), Quality(np.inf, 1.0)
    return Scores(far, dict.fromkeys(FLIPS, equal), {"int8": far})


def planted_report(folder: Path, *weights: str) -> Report:
    """A report of two pictures, with their images in a folder."""
    scores = planted(20.0, 0.5), planted(23.0, 0.75)
    evaluation = Evaluation(mean(scores), scores, bits_per_pixel(AuraConfig()))
    folders = reconstruction_folders(weights)
    for name in ("original", *folders):
        (folder / name).mkdir(parents=True)
        for png, level in (("a.png", 90), ("b.png", 200)):
            Image.new("RGB", (16, 16), (level, 0, 0)).save(folder / name / png)
    return Report(
        size=16,
        dtype="float32",
        skipped=("bad.png",),
        pictures=(Picture("x/a.jpg", 40, 30, "a.png"), Picture("x/b.jpg", 90, 70, "b.png")),
        models=tuple(
            Model(name, "f" * 64, AuraConfig(), folder=each)
            for name, each in zip(weights, folders, strict=True)
        ),
        evaluations=(evaluation,) * len(weights),
    )

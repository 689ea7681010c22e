"""The command aura-jax evaluate: what it writes, skips and refuses."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

import aura_jax
from aura_jax import AuraEquiVAE, AuraError
from aura_jax.cli.evaluate import evaluate
from aura_jax.evaluation import Quality, Scores
from aura_jax.images.transforms import Pixels8
from aura_jax.training.networks.lpips import Perceptual, abstract_lpips
from tests.commands import invoke
from tests.photo_folder import write_photos
from tests.test_quality import WANG

type Command = Callable[..., str]

SIDE = 16
ENTRIES = ["evaluation.json", "evaluation.png", "original", "reconstruction"]

app = typer.Typer(pretty_exceptions_enable=False)
app.command()(evaluate)


class FakeEvaluator:
    """Measure nothing: each reconstruction is the negative of its image."""

    def __init__(self, *_: Any, **options: Any):
        self.options = options

    def __call__(self, image: Pixels8) -> tuple[Scores, Pixels8]:
        lpips = None if self.options["lpips"] is None else 0.25
        far = Quality(20.0, 0.5, lpips)
        flips = dict.fromkeys("hv", far) if self.options["flips"] else {}
        return Scores(far, flips, {}), 255 - image


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aura_jax.evaluation.comparison.Evaluator", FakeEvaluator)
    monkeypatch.setattr("aura_jax.evaluation.figure.draw", lambda *_: b"figure")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with two images, and a text."""
    folder = write_photos(tmp_path / "photos", 2)
    (folder / "notes.txt").write_text("no image")
    return folder


@pytest.fixture(scope="module")
def weights(tiny_vae: AuraEquiVAE, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "tiny.st"
    aura_jax.save(tiny_vae, path)
    return path


@pytest.fixture
def command(weights: Path) -> Command:
    return lambda *words: invoke(app, "--weights", weights, "--size", SIDE, *words)


def document_of(out: Path) -> dict[str, Any]:
    return json.loads((out / "evaluation.json").read_text())


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_the_written_images_have_the_written_measures(
    command: Command, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("aura_jax.evaluation.figure.draw", lambda *_: b"figure")
    out = tmp_path / "deep" / "report"
    printed = json.loads(command(photos, "--flips", "--out", out, "--json"))
    assert printed == document_of(out)
    assert names_in(out) == ENTRIES
    assert names_in(out / "original") == names_in(out / "reconstruction") == ["000.png", "001.png"]
    (model,) = printed["models"]
    assert model["bits_per_pixel"] == {"bfloat16": 64, "float32": 128, "int8": 32}
    for about, measured in zip(printed["images"], model["images"], strict=True):
        assert about["image"] == measured["image"] == str(photos / about["png"])
        assert (about["width"], about["height"]) == (48, 48)
        x, y = (read(out / name / about["png"]) for name in ("original", model["folder"]))
        assert x.shape == y.shape == (SIDE, SIDE, 3)
        reconstruction = measured["reconstruction"]
        decibels = peak_signal_noise_ratio(x, y, data_range=255)
        assert reconstruction["psnr_db"] == pytest.approx(decibels, rel=1e-5)
        similarity = structural_similarity(x, y, data_range=255, **WANG)
        assert reconstruction["ssim"] == pytest.approx(similarity, abs=1e-5)
        assert measured["flips"].keys() == {"h", "v", "hv"}


@pytest.mark.usefixtures("fake")
def test_models_are_compared_in_one_table(
    command: Command, weights: Path, photos: Path, tmp_path: Path
):
    out, other = tmp_path / "report", tmp_path / "other.st"
    other.symlink_to(weights)
    shown = command(photos, "--weights", other, "--flips", "--out", out)
    rows = [line.split() for line in shown.splitlines()]
    assert [row[-2:] for row in rows if row[:2] == ["v", "flip"]] == [["20.00", "0.5000"]] * 2
    assert f"wrote {out}" in shown
    folders = [model["folder"] for model in document_of(out)["models"]]
    assert [Path(folder).name[:2] for folder in folders] == ["1_", "2_"]
    for folder in folders:
        negative = 255 - read(out / "original" / "001.png")
        np.testing.assert_array_equal(read(out / folder / "001.png"), negative)


@pytest.mark.usefixtures("fake")
def test_averaged_models_stand_beside_the_given_ones(command: Command, weights: Path, photos: Path):
    models = json.loads(command(photos, "--equivariant", "--json"))["models"]
    names = [(model["weights"], model["equivariant"]) for model in models]
    assert names == [(str(weights), False), (f"{weights}, equivariant", True)]


@pytest.mark.usefixtures("fake")
def test_without_out_nothing_is_written_and_names_may_repeat(
    command: Command, photos: Path, tmp_path: Path
):
    Image.new("RGB", (20, 20)).save(photos / "000.jpg")
    before = sorted(tmp_path.rglob("*"))
    document = json.loads(command(photos, "--json"))
    assert len(document["images"]) == 3
    assert document["images"][0]["png"] is document["models"][0]["folder"] is None
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.usefixtures("fake")
def test_bad_images_are_skipped_and_modes_are_converted(
    command: Command, photos: Path, tmp_path: Path
):
    out = tmp_path / "report"
    (photos / "text.png").write_text("hello")
    Image.linear_gradient("L").resize((30, 40)).save(photos / "gray.png")
    Image.new("RGBA", (9, 300), (0, 0, 0, 0)).save(photos / "long.png")
    Image.new("RGB", (99, 99)).save(photos / "large.png")
    with pytest.raises(AuraError, match="2 of 6 images skipped; the others are written"):
        command(photos, "--out", out, "--max-pixels", 9_000)
    with pytest.raises(AuraError, match="2 of 6 images skipped; the others are measured"):
        command(photos, "--max-pixels", 9_000)
    assert document_of(out)["skipped"] == [str(photos / n) for n in ("large.png", "text.png")]


@pytest.mark.usefixtures("fake")
def test_an_old_report_is_replaced_as_a_whole(command: Command, photos: Path, tmp_path: Path):
    out = tmp_path / "report"
    command(photos, "--out", out)
    (out / "mine.txt").write_text("mine")
    leftover = out / ".evaluation.0123abcd"
    leftover.mkdir()
    with pytest.raises(AuraError, match=r"evaluation\.json: exists already; .* or --overwrite"):
        command(photos, "--out", out)
    command(photos / "001.png", "--out", out, "--overwrite")
    assert names_in(out) == [*ENTRIES[:2], "mine.txt", *ENTRIES[2:]]
    assert names_in(out / "original") == ["001.png"]


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_report_or_nothing(
    command: Command,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
):
    old, new = tmp_path / "old", tmp_path / "new" / "report"
    command(photos, "--out", old)
    before = {path: path.stat().st_mtime_ns for path in sorted(old.rglob("*"))}

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("aura_jax.evaluation.figure.draw", fail)
    for out in (old, new):
        with pytest.raises((OSError, AssertionError)):  # Ctrl-C exits with 130, which is not 0
            command(photos, "--out", out, "--overwrite")
    assert {path: path.stat().st_mtime_ns for path in sorted(old.rglob("*"))} == before
    assert not new.parent.exists()


def test_refusals_name_the_thing_and_write_nothing(
    command: Command, weights: Path, photos: Path, tmp_path: Path
):
    file, theirs, empty = (tmp_path / name for name in ("file", "theirs", "empty"))
    file.write_text("hello")
    (theirs / "original").mkdir(parents=True)
    empty.mkdir()
    Image.new("RGB", (9, 9)).save(theirs / "original" / "a.png")
    twin = tmp_path / "twin" / "000.jpg"
    twin.parent.mkdir()
    Image.new("RGB", (9, 9)).save(twin)
    new = ("--out", tmp_path / "new")
    before = sorted(tmp_path.rglob("*"))
    for words, message in (
        ((empty, *new), "empty: no images found"),
        ((tmp_path / "no", *new), "no: no such file or folder"),
        ((file, *new), "every image was skipped, so nothing was written"),
        ((photos, twin, *new), "2 images are named '000', but .* rename them, or omit --out"),
        ((photos, photos / "000.png"), r"000\.png: given twice, or lies within another place"),
        ((photos, "--out", file), "file: is a file; give a folder"),
        ((photos, "--out", photos / "new"), r"lies in .*photos, a folder of input images"),
        ((photos, "--out", theirs, "--overwrite"), "original: is not part of a report"),
        ((theirs / "original", "--out", theirs / "original"), "a folder of input images"),
        ((photos / "000.png", "--out", photos), r"000\.png: lies in the output folder"),
        ((photos, *new, "--size", "17"), "--size 17: expected a multiple of 2"),
        ((photos, *new, "--size", "8"), "--size 8: expected 16 pixels or more"),
        ((photos, *new, "--weights", file), "file: is not a valid"),
        ((photos, *new, "--weights", "smal"), "smal: no such file"),
        ((photos, *new, "--weights", weights), "given twice; compare different"),
        ((photos, *new, "--perceptual", file), "file: is not a valid"),
        ((photos, *new, "--perceptual", weights), r"convert\.perceptual` wrote"),
    ):
        with pytest.raises(AuraError, match=message):
            command(*words)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.usefixtures("fake")
def test_perceptual_weights_are_used_or_refused(
    command: Command, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    network = abstract_lpips()
    loaded = {"full": Perceptual(network.vgg, network), "vgg": Perceptual(network.vgg, None)}
    monkeypatch.setattr(
        "aura_jax.training.networks.lpips.load_perceptual", lambda path: loaded[path.name]
    )
    assert "0.2500" in command(photos, "--perceptual", tmp_path / "full")
    with pytest.raises(AuraError, match="vgg: holds VGG16 alone; convert it with --lpips"):
        command(photos, "--perceptual", tmp_path / "vgg")


@pytest.mark.usefixtures("fake")
def test_without_matplotlib_the_extra_is_named_if_it_is_needed(
    command: Command, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in [*sys.modules]:
        if name.startswith("matplotlib.") or name == "aura_jax.evaluation.figure":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(AuraError, match=r'pip install "aura-jax\[report\]"'):
        command(photos, "--out", tmp_path / "new")
    assert not (tmp_path / "new").exists()
    command(photos)

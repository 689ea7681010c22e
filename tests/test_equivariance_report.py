"""The equivariance report: its averages, its figure, and how the command refuses."""

import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import typer
from flax import nnx
from PIL import Image

from aura_jax import AuraConfig, AuraEquiVAE, AuraError
from aura_jax.cli.equivariance import equivariance
from aura_jax.equivariance import (
    FLIPS,
    SIGMAS,
    Distance,
    FlipErrors,
    LatentDistance,
    Measures,
    Reconstruction,
    report,
)
from aura_jax.equivariance.figure import draw
from aura_jax.images.transforms import Pixels, square_pixels
from tests.commands import invoke
from tests.conftest import GOLDEN_CONFIG, GOLDEN_WEIGHTS, ROOT
from tests.photo_folder import read_image

SIDE = 40  # pixels: the smallest that has an interior and is a multiple of 8
KEY = jax.random.key(0)
SIGNS = {  # written out, not computed
    "h": (1,) * 12 + (-1, -1, 1, 1),
    "v": (1,) * 12 + (1, 1, -1, -1),
    "hv": (1,) * 12 + (-1, -1, -1, -1),
}

app = typer.Typer(pretty_exceptions_enable=False)
app.command()(equivariance)


@pytest.fixture(scope="module")
def pixels() -> Pixels:
    return square_pixels(read_image(ROOT / "examples" / "chelsea.jpg"), SIDE)


def test_a_report_averages_and_is_strict_json():
    document = report(
        {"a.png": planted(20.0), "b.png": planted(23.0)},
        weights="some/weights",
        size=SIDE,
        seed=0,
        dtype="float32",
    )
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert [photo["photo"] for photo in document["photos"]] == ["a.png", "b.png"]
    assert [photo["reconstruction"]["psnr_db"] for photo in document["photos"]] == [20, 23]
    average = document["average"]
    assert average["reconstruction"] == {"psnr_db": 21.5, "relative_l2": 0.123457, "ssim": 0.5}
    assert average["signed"]["hv"]["decoder"] == {"psnr_db": None, "relative_l2": 0}
    assert average["unsigned"]["v"]["encoder"] == {"snr_db": 21.5, "relative_l2": 0.5}
    assert average["noise"]["additive"] == [None] + [21.5] * (len(SIGMAS) - 1)
    assert document["sigmas"] == list(SIGMAS)
    rule = document["sign_rule"]["h"]
    assert (rule["signs"], rule["documented"]) == (list(SIGNS["h"]), list(SIGNS["h"]))
    assert rule["agrees"] is True
    assert rule["correlation"] == np.diag(np.array(SIGNS["h"], float)).tolist()


def test_every_measure_of_a_report_is_defined():
    document = planted_report()
    entries = {**document, **document["average"], **document["average"]["signed"]["h"]}
    entries |= {**document["average"]["noise"], **document["average"]["signed"]["h"]["encoder"]}
    undefined = entries.keys() - document["definitions"].keys()
    assert undefined == {"weights", "dtype", "seed", "sigmas", "definitions", "photos"}


def test_the_figure_shows_something_whatever_the_numbers():
    document = planted_report("x" * 200 + "$_$\udcff")
    assert None in document["average"]["noise"]["additive"]
    with Image.open(io.BytesIO(draw(document))) as image:
        assert image.format == "PNG"
        assert image.width > 1000
        assert image.convert("RGB").getcolors(100) is None, "at most 100 colors"


def test_the_command_measures_photographs(
    photos: Path, tmp_path: Path, pixels: Pixels, monkeypatch: pytest.MonkeyPatch
):
    seen: list[tuple[AuraEquiVAE, Pixels, jax.Array]] = []

    def record(*words: Any) -> Measures:
        seen.append(words)
        return planted(20.0)

    monkeypatch.setattr("aura_jax.equivariance.measure", record)
    out = tmp_path / "report"
    document = json.loads(command(photos / "deep", "--out", out, "--json"))
    ((vae, shown, key),) = seen
    assert vae.config == GOLDEN_CONFIG
    assert "dtype=float32" in repr(vae)
    np.testing.assert_array_equal(shown, pixels)
    assert key == KEY
    assert [p["photo"] for p in document["photos"]] == [str(photos / "deep" / "chelsea.jpg")]
    assert document == report_of(out)
    assert sorted(path.name for path in out.iterdir()) == ["report.json", "report.png"]
    assert document["weights"] == str(GOLDEN_WEIGHTS)
    assert document["size"] == SIDE
    assert document["photos"][0]["signed"]["h"]["round_trip"]["psnr_db"] == 20
    with Image.open(out / "report.png") as image:
        assert image.getextrema() != ((255, 255),) * 4


@pytest.fixture
def planted_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measures and a figure that cost no time."""
    monkeypatch.setattr("aura_jax.equivariance.measure", lambda *_: planted(20.0))
    monkeypatch.setattr("aura_jax.equivariance.figure.draw", lambda _: b"figure")


@pytest.mark.usefixtures("planted_measure")
def test_the_command_takes_files_and_folders_and_skips(photos: Path, tmp_path: Path):
    out, extra, text = (tmp_path / name for name in ("report", "extra.png", "text.png"))
    Image.new("RGB", (50, 60), "teal").save(extra)
    text.write_text("hello")
    with pytest.raises(AuraError, match="1 of 4 images skipped; the others are written"):
        command(photos, text, extra, "--out", out)
    assert [p["photo"] for p in report_of(out)["photos"]] == [
        str(photos / "deep" / "chelsea.jpg"),
        str(photos / "gray.png"),
        str(extra),
    ]
    with pytest.raises(AuraError, match=r"report\.json: exists already; .* --overwrite"):
        command(photos, "--out", out)
    shown = command(photos / "deep", "--out", out, "--overwrite")
    assert re.search(r"^ *round trip +20\.00 +20\.00", shown, re.MULTILINE)
    assert "reconstruction: 20.00 dB, SSIM 0.500" in shown
    assert "signs under hv: as documented, 12, 13, 14, 15 negate" in shown
    assert f"wrote {out / 'report.json'} and {out / 'report.png'}" in shown
    assert len(report_of(out)["photos"]) == 1


def test_refusals_name_the_thing_and_write_nothing(photos: Path, tmp_path: Path):
    empty, file, own = (tmp_path / name for name in ("empty", "file", "own"))
    empty.mkdir()
    file.write_text("hello")
    (tmp_path / "a.png").write_text("hello")
    own.mkdir()
    Image.new("RGB", (9, 9)).save(own / "report.png")
    new = ("--out", tmp_path / "new")
    before = sorted(tmp_path.rglob("*"))
    for words, message in (
        ((empty, *new), "empty: no images found"),
        ((tmp_path / "no", *new), "no: no such file or folder"),
        ((file, tmp_path / "a.png", *new), "every image was skipped, so nothing was written"),
        ((photos, *new, "--size", "44"), "--size 44: expected a multiple of 8"),
        ((photos, *new, "--size", "32"), "--size 32: expected more than 32 pixels"),
        ((photos, "--out", file), "file: is a file; give a folder"),
        ((photos, "--out", file / "new"), "file: is a file; give a folder"),
        ((photos, *new, "--weights", file), "file: is not a valid"),
        ((own, "--out", own, "--overwrite"), r"own: lies in .*own, a folder of input images"),
    ):
        with pytest.raises(AuraError, match=message):
            command(*words)
    assert sorted(tmp_path.rglob("*")) == before


def test_models_of_other_channels(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    config = AuraConfig(32, (2,), 1, 4, in_channels=1)
    gray = nnx.eval_shape(lambda: AuraEquiVAE(config, rngs=nnx.Rngs(0)))
    monkeypatch.setattr("aura_jax.photo_latents.load", lambda *_, **__: gray)
    with pytest.raises(AuraError, match=r"small_bf16\.pt: not a model of RGB images"):
        command(photos, "--out", tmp_path / "new")


@pytest.mark.usefixtures("planted_measure")
def test_both_files_or_none(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    out = tmp_path / "report"
    out.mkdir()
    (out / "report.json").write_text("mine")
    write = Path.write_bytes

    def full(self: Path, data: bytes) -> int:
        if "report.png" in self.name:
            raise OSError(28, "No space left on device")
        return write(self, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(AuraError, match=r"report\.png: cannot be written \(No space"):
        command(photos, "--out", out, "--overwrite")
    assert [path.read_text() for path in out.iterdir()] == ["mine"]


def test_without_matplotlib_the_extra_is_named(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in [*sys.modules]:
        if name.startswith("matplotlib.") or name == "aura_jax.equivariance.figure":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(
        AuraError, match=r'matplotlib is not installed: pip install "aura-jax\[report\]"'
    ):
        command(photos, "--out", tmp_path / "new")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with a photograph in a folder, a small gray one, a hidden one and a text."""
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "chelsea.jpg").symlink_to(ROOT / "examples" / "chelsea.jpg")
    Image.linear_gradient("L").resize((30, 20)).save(folder / "gray.png")
    (folder / ".hidden.png").write_text("no image")
    (folder / "notes.txt").write_text("no image")
    return folder


def report_of(out: Path) -> dict[str, Any]:
    return json.loads((out / "report.json").read_text())


def command(*words: str | Path) -> str:
    return invoke(app, "--weights", GOLDEN_WEIGHTS, "--size", SIDE, *words)


def planted(psnr: float) -> Measures:
    """A decoder that is exact, everything else at `psnr`, and the documented signs."""
    exact, far = Distance(np.inf, 0.0), Distance(psnr, 0.5)
    encoder = LatentDistance(psnr, 0.5)
    curve = [np.inf] + [psnr] * (len(SIGMAS) - 1)
    return Measures(
        reconstruction=Reconstruction(psnr, 0.123456789, 0.5),
        signed={name: FlipErrors(exact, exact, exact, far, encoder) for name in FLIPS},
        unsigned={name: FlipErrors(far, far, far, far, encoder) for name in FLIPS},
        noise={"multiplicative": curve, "additive": curve},
        correlation={name: np.diag(np.array(SIGNS[name], float)) for name in FLIPS},
    )


def planted_report(weights: str = "w") -> dict[str, Any]:
    measures = {"a.png": planted(20.0)}
    return report(measures, weights=weights, size=SIDE, seed=0, dtype="float32")

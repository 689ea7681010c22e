"""The equivariance report: that its numbers are those it names, and how the command refuses."""

import dataclasses
import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import typer
from flax import nnx
from PIL import Image
from typer.testing import CliRunner

import aura_jax
from aura_jax import AuraConfig, AuraEquiVAE, AuraError
from aura_jax.equivariance import (
    FLIPS,
    SIGMAS,
    Distance,
    FlipErrors,
    LatentDistance,
    Measures,
    Reconstruction,
    SignRule,
    border_and_interior,
    correlation_map,
    image_distance,
    latent_distance,
    measure,
    noise_curves,
    recovered_rule,
    report,
)
from aura_jax.equivariance.command import equivariance
from aura_jax.equivariance.figure import draw
from aura_jax.images import Pixels, read_photo, square_photo
from aura_jax.tolerances import EQUIVARIANCE, NOT_EQUIVARIANT
from tests.conftest import GOLDEN_WEIGHTS, ROOT
from tests.mirrored import with_mirrored_decoder

SIDE = 40  # pixels: the smallest that has an interior and is a multiple of 8
KEY = jax.random.key(0)
SIGNS = {  # written out, not computed
    "h": (1,) * 12 + (-1, -1, 1, 1),
    "v": (1,) * 12 + (1, 1, -1, -1),
    "hv": (1,) * 12 + (-1, -1, -1, -1),
}
AXES = {"h": (1,), "v": (0,), "hv": (0, 1)}  # of [H, W, C]

app = typer.Typer(pretty_exceptions_enable=False)
app.command()(equivariance)


@pytest.fixture(scope="module")
def pixels() -> Pixels:
    return square_photo(read_photo(ROOT / "examples" / "chelsea.jpg"), SIDE)


@pytest.fixture(scope="module")
def mirrored_vae() -> AuraEquiVAE:
    vae = aura_jax.load(GOLDEN_WEIGHTS, dtype=jnp.float32, param_dtype=jnp.float32)
    return with_mirrored_decoder(vae)


@pytest.fixture(scope="module")
def mirrored(mirrored_vae: AuraEquiVAE, pixels: Pixels) -> Measures:
    return measure(mirrored_vae, pixels, KEY)


def test_distances_in_decibels():
    reference = np.full((2, 3, 3), -0.5, np.float32)
    assert image_distance(reference + np.float32(0.02), reference) == near(40, 0.04)
    assert latent_distance(reference * np.float32(1.1), reference) == near(20, 0.1)
    assert image_distance(reference, reference) == Distance(np.inf, 0.0)
    assert latent_distance(reference, reference) == LatentDistance(np.inf, 0.0)
    assert latent_distance(reference, 0 * reference) == LatentDistance(-np.inf, np.inf)


def test_the_border_is_16_pixels_wide():
    reference = np.full((41, 36, 3), 0.5, np.float32)
    image = reference.copy()
    image[16:25, 16:20] += np.float32(0.2)
    border, interior = border_and_interior(image, reference)
    assert border == Distance(np.inf, 0.0)
    assert interior.psnr_db == pytest.approx(20, abs=1e-4)
    image = reference + np.float32(0.02)
    image[16:25, 16:20] = reference[16:25, 16:20]
    border, interior = border_and_interior(image, reference)
    assert border.psnr_db == pytest.approx(40, abs=1e-4)
    assert interior == Distance(np.inf, 0.0)


@pytest.mark.parametrize("name", FLIPS)
def test_a_mirrored_decoder_is_equivariant_and_without_signs_it_is_not(
    mirrored: Measures, name: str
):
    signed, unsigned = mirrored.signed[name], mirrored.unsigned[name]
    for part in (signed.decoder, signed.border, signed.interior):
        assert part.relative_l2 <= EQUIVARIANCE
        assert part.psnr_db > 90
    for part in (unsigned.decoder, unsigned.border, unsigned.interior):
        assert part.relative_l2 > NOT_EQUIVARIANT
        assert part.psnr_db < 30
    # So what comes back from the flipped latent is as good as what comes back unflipped.
    assert signed.round_trip.psnr_db == pytest.approx(mirrored.reconstruction.psnr_db, abs=1e-3)
    assert abs(unsigned.round_trip.psnr_db - mirrored.reconstruction.psnr_db) > 0.01


@pytest.mark.parametrize("name", FLIPS)
def test_measures_are_what_they_are_called(golden_vae: AuraEquiVAE, pixels: Pixels, name: str):
    """Written again, with numpy's flip and a formula each."""
    axes, signs = AXES[name], np.array(SIGNS[name], np.float32)
    z = run(aura_jax.encode, golden_vae, pixels)
    encoded = run(aura_jax.encode, golden_vae, np.flip(pixels, axes))
    decoded = run(aura_jax.decode, golden_vae, z).clip(-1, 1)
    measures = measure(golden_vae, pixels, KEY)
    for errors, flipped in (
        (measures.signed[name], np.flip(z, axes) * signs[None, None]),
        (measures.unsigned[name], np.flip(z, axes)),
    ):
        image = run(aura_jax.decode, golden_vae, flipped).clip(-1, 1)
        assert errors.decoder == distance(image, np.flip(decoded, axes))
        assert errors.round_trip == distance(image, np.flip(pixels, axes))
        noise = relative(encoded, flipped)
        assert errors.encoder == near(-20 * np.log10(noise), noise)
    corner = np.corrcoef(encoded[..., 3].ravel(), np.flip(z, axes)[..., 5].ravel())[0, 1]
    assert measures.correlation[name][3, 5] == pytest.approx(corner, abs=1e-4)


def test_the_reconstruction(golden_vae: AuraEquiVAE, pixels: Pixels):
    decoded = run(aura_jax.decode, golden_vae, run(aura_jax.encode, golden_vae, pixels))
    expected = distance(decoded.clip(-1, 1), pixels)
    reconstruction = measure(golden_vae, pixels, KEY).reconstruction
    assert Distance(reconstruction.psnr_db, reconstruction.relative_l2) == expected
    assert 0 < reconstruction.ssim < 0.5  # untrained, yet of the same brightness here and there


def test_noise_curves_start_at_the_reconstruction(mirrored: Measures):
    assert list(mirrored.noise) == ["multiplicative", "additive"]
    for curve in mirrored.noise.values():
        assert len(curve) == len(SIGMAS)
        assert curve[0] == mirrored.reconstruction.psnr_db


def test_noise_takes_an_image_away_from_what_its_latent_decodes_to(golden_vae: AuraEquiVAE):
    z = np.asarray(jax.random.normal(KEY, (5, 5, 16)) + 0.5)
    image = run(aura_jax.decode, golden_vae, z).clip(-1, 1)
    curves = noise_curves(golden_vae, image, z, KEY)
    for curve in curves.values():
        assert curve[0] == np.inf
        assert all(np.diff(curve[1:]) < 0)

    n = np.asarray(jax.random.normal(KEY, z.shape))
    for kind, noisy in (("multiplicative", z * (1 + 0.2 * n)), ("additive", z + 0.2 * z.std() * n)):
        expected = distance(run(aura_jax.decode, golden_vae, noisy).clip(-1, 1), image)
        assert curves[kind][SIGMAS.index(0.2)] == pytest.approx(expected.decibels, abs=1e-2)


@pytest.mark.parametrize("name", FLIPS)
def test_planted_signs_are_recovered(name: str):
    rng = np.random.default_rng(0)
    z = rng.normal(1, 2, (9, 8, 16))
    encoded = z * SIGNS[name] + rng.normal(0, 1, z.shape)
    correlation = correlation_map(encoded, z)
    rule = recovered_rule(correlation, **FLIPS[name])
    assert rule == SignRule(SIGNS[name], SIGNS[name])
    assert rule.agrees
    joint = np.corrcoef(encoded.reshape(-1, 16).T, z.reshape(-1, 16).T)
    np.testing.assert_allclose(correlation, joint[:16, 16:], atol=1e-12)


def test_another_rule_is_told_from_the_documented_one():
    z = np.random.default_rng(0).normal(size=(9, 8, 16))
    other = (-1, -1) + (1,) * 14
    rule = recovered_rule(correlation_map(z * other, z), **FLIPS["h"])
    assert rule == SignRule(other, SIGNS["h"])
    assert not rule.agrees
    assert not recovered_rule(correlation_map(z * SIGNS["v"], z), **FLIPS["h"]).agrees


def test_channels_that_show_no_sign():
    z = np.random.default_rng(0).normal(size=(30, 30, 4))
    encoded = z.copy()
    encoded[..., 0] = 3  # constant
    encoded[..., 1] = z[::-1, ::-1, 1]  # unrelated
    correlation = correlation_map(encoded, z)
    assert (correlation[0] == 0).all()
    rule = recovered_rule(correlation, **FLIPS["v"])
    assert rule == SignRule((0, 0, 1, 1), (1, 1, -1, -1))


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
    png = draw(document)
    with Image.open(io.BytesIO(png)) as picture:
        assert picture.format == "PNG"
        assert picture.width > 1000
        colours = np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)
    assert len(colours) > 100
    assert draw(json.loads(json.dumps(document))) == png  # as from report.json


def test_the_command_measures_folders_and_files(photos: Path, tmp_path: Path, pixels: Pixels):
    out = tmp_path / "report"
    extra = tmp_path / "extra.png"
    Image.new("RGB", (50, 60), "teal").save(extra)
    document = json.loads(command(photos, extra, "--out", out, "--json"))
    assert [p["photo"] for p in document["photos"]] == [
        str(photos / "deep" / "chelsea.jpg"),
        str(photos / "gray.png"),
        str(extra),
    ]
    assert document == json.loads((out / "report.json").read_text())
    assert sorted(path.name for path in out.iterdir()) == ["report.json", "report.png"]
    assert document["weights"] == str(GOLDEN_WEIGHTS)
    assert document["size"] == SIDE
    vae = aura_jax.load(GOLDEN_WEIGHTS, dtype=jnp.float32)
    expected = measure(vae, pixels, KEY).signed["h"].decoder.psnr_db
    assert document["photos"][0]["signed"]["h"]["decoder"]["psnr_db"] == pytest.approx(expected)
    with Image.open(out / "report.png") as picture:
        assert picture.getextrema() != ((255, 255),) * 4

    with pytest.raises(AuraError, match=r"report\.json: exists already; .* --overwrite"):
        command(photos, "--out", out)
    text = command(photos / "deep", "--out", out, "--overwrite")
    assert re.search(r"^ *decoder +\d+\.\d\d +\d+\.\d\d", text, re.MULTILINE)
    assert "reconstruction: " in text
    assert "signs under hv: not as documented in channels " in text
    assert f"wrote {out / 'report.json'} and {out / 'report.png'}" in text
    assert len(json.loads((out / "report.json").read_text())["photos"]) == 1


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
        ((empty, *new), "empty: no pictures in this folder or below it"),
        ((tmp_path / "no", *new), "no: no such file or folder"),
        ((photos, file, *new), "file: not a picture"),
        ((photos, file, tmp_path / "a.png", *new), r"file: not a pic[^\n]*\n.*a\.png: not a pic"),
        ((photos, *new, "--size", "44"), "--size 44: expected a multiple of 8"),
        ((photos, *new, "--size", "32"), "--size 32: expected more than 32 pixels"),
        ((photos, "--out", file), "file: is a file, give a folder"),
        ((photos, "--out", tmp_path / "no" / "new"), "folder .* does not exist"),
        ((photos, *new, "--weights", file), "file: is not a sound"),
        ((own, "--out", own, "--overwrite"), r"report\.png: is among the photographs"),
    ):
        with pytest.raises(AuraError, match=message):
            command(*words)
    assert sorted(tmp_path.rglob("*")) == before


def test_models_of_other_channels(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    config = AuraConfig(32, (2,), 1, 4, in_channels=1)
    gray = nnx.eval_shape(lambda: AuraEquiVAE(config, rngs=nnx.Rngs(0)))
    monkeypatch.setattr("aura_jax.equivariance.command.load", lambda *_, **__: gray)
    with pytest.raises(AuraError, match=r"small_bf16\.pt: not a model of RGB pictures"):
        command(photos, "--out", tmp_path / "new")


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
    with pytest.raises(AuraError, match=r'matplotlib: pip install "aura-jax\[report\]"'):
        command(photos, "--out", tmp_path / "new")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with a photograph in a folder, a small gray one, a hidden one and a text."""
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "chelsea.jpg").symlink_to(ROOT / "examples" / "chelsea.jpg")
    Image.linear_gradient("L").resize((30, 20)).save(folder / "gray.png")
    (folder / ".hidden.png").write_text("no picture")
    (folder / "notes.txt").write_text("no picture")
    return folder


def command(*words: str | Path) -> str:
    """Runs the command in this process; raises what it raises, returns what it prints."""
    defaults = ["--weights", GOLDEN_WEIGHTS, "--size", SIDE]
    result = CliRunner().invoke(app, [str(word) for word in (*defaults, *words)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def run(function: Any, vae: AuraEquiVAE, x: np.ndarray) -> np.ndarray:
    return np.asarray(function(vae, np.ascontiguousarray(x[None], np.float32))[0])


def relative(x: np.ndarray, reference: np.ndarray) -> float:
    return float(np.linalg.norm(x - reference) / np.linalg.norm(reference))


@dataclasses.dataclass(frozen=True)
class near:  # noqa: N801
    """Equal to distances that differ by rounding alone."""

    decibels: float
    relative_l2: float

    def __eq__(self, other: object) -> bool:
        numbers = dataclasses.astuple(other)  # type: ignore[arg-type]
        return numbers == pytest.approx((self.decibels, self.relative_l2), rel=1e-4)


def distance(x: np.ndarray, reference: np.ndarray) -> near:
    squares = np.square(x.astype(float) - reference)
    return near(10 * np.log10(4 / squares.mean()), relative(x, reference))


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

"""Folders of `save_pretrained`: what they hold, who reads them, and which are refused."""

import json
import shutil
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import aura_jax
from aura_jax import AuraConfig, AuraEquiVAE, AuraError, CheckpointError, LatentStats
from aura_jax.cli.app import app
from aura_jax.model.parameters import blueprint, fingerprint, merge, split
from aura_jax.publishing import saving
from aura_jax.publishing.card import model_card
from aura_jax.publishing.quality import Quality, measure_quality
from tests.checkpoint_files import Tensors, written
from tests.commands import invoke
from tests.conftest import TINY_CONFIG
from tests.mirrored import with_mirrored_decoder
from tests.photo_folder import write_photos
from tests.random_models import random_vae

QUALITY = "aura_jax.publishing.quality"
FILES = ["README.md", "config.json", "model.safetensors"]


@pytest.fixture
def saved(tiny_vae: AuraEquiVAE, tmp_path: Path) -> Path:
    """A folder of `save_pretrained`, without measured quality."""
    tiny_vae.save_pretrained(tmp_path / "new" / "model", photographs=[])
    return tmp_path / "new" / "model"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def change(folder: Path, **fields: object) -> None:
    """Change fields of config.json."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_a_saved_folder_is_read_everywhere(saved: Path, tiny_vae: AuraEquiVAE):
    assert names(saved) == FILES
    assert json.loads((saved / "config.json").read_text())["ch_mult"] == [1, 2]
    for vae in (AuraEquiVAE.from_pretrained(saved), aura_jax.load(str(saved))):
        assert (vae.config, fingerprint(vae)) == (TINY_CONFIG, fingerprint(tiny_vae))
    described = json.loads(invoke(app, "info", saved, "--json"))
    assert described["config"]["ch_mult"] == [1, 2]
    assert described["latent_stats"] is None


@pytest.mark.parametrize(("folder", "name"), [(".", "here"), ("../small", "./small")])
def test_the_cards_name_loads_the_folder(
    tiny_vae: AuraEquiVAE, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, name: str
):
    """Not the checkpoint of that name which comes with the package."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    tiny_vae.save_pretrained(folder, photographs=[])
    assert f'from_pretrained("{name}")' in (Path(folder) / "README.md").read_text()
    monkeypatch.chdir(tmp_path)
    assert AuraEquiVAE.from_pretrained(name).config == TINY_CONFIG


def test_an_empty_name_is_not_the_working_folder(
    tiny_vae: AuraEquiVAE, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AuraError, match='"": expected a folder'):
        tiny_vae.save_pretrained("", photographs=[])
    assert list(tmp_path.iterdir()) == []
    tiny_vae.save_pretrained(".", photographs=[])
    with pytest.raises(CheckpointError, match='"": expected a file, a folder or a name'):
        AuraEquiVAE.from_pretrained("")


def test_arguments_reach_the_loader(saved: Path):
    vae = AuraEquiVAE.from_pretrained(saved, dtype="bf16", param_dtype="f32")
    assert vae.encoder.conv_in.dtype == np.dtype("bfloat16")
    assert vae.encoder.conv_in.kernel[...].dtype == np.float32
    with pytest.raises(CheckpointError, match="has no tensors under the prefix"):
        AuraEquiVAE.from_pretrained(saved, prefix="first_stage_model")
    with pytest.raises(CheckpointError, match="has no revision 'main'"):
        AuraEquiVAE.from_pretrained(saved, revision="main")


def test_a_model_is_saved_again_over_itself(saved: Path, tiny_vae: AuraEquiVAE):
    (saved / "notes.txt").write_text("mine")
    (saved / ".gitattributes").write_text("")
    other = random_vae(AuraConfig(32, (2,), 1, 4))
    other.save_pretrained(saved, photographs=[])
    assert names(saved) == [".gitattributes", *FILES, "notes.txt"]
    assert aura_jax.load(saved).config == other.config


def test_the_card_says_what_was_measured():
    vae = random_vae(AuraConfig(32, (2,), 1, 4))
    flips = {"h": 40.06, "v": 39.0, "hv": np.inf}
    card = model_card(vae, Quality("2 photographs", 32, 30.04, 0.9, flips, 0.01), name="m")
    assert card.startswith("---\nlibrary_name: aura-jax\n")
    assert 'from_pretrained("m")' in card
    assert "On 2 photographs.\nImages are centered squares of 32 × 32, computed in float32" in card
    assert "is 30.0 dB, and its SSIM 0.900." in card
    assert "| h | 40.1 |\n| v | 39.0 |\n| hv | inf |\n" in card
    assert "learned and not exact: a relative error of 1.0e-02 at most" in card
    assert "542,983 parameters in float32" in card
    assert "## Latent statistics\n\nNone." in card
    vae.latent_stats = LatentStats([0.0] * 4, [1.5] * 4, "ten images")
    card = model_card(vae, None, name="m")
    assert "Not measured." in card
    assert "Measured on: ten images." in card
    assert "| 3 | 0.0000 | 1.5000 |" in card


def test_quality_is_that_of_decoded_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Of a network that only brightens, without and with channels that flips negate."""
    vae, photos = random_vae(AuraConfig(32, (2,), 1, 4)), write_photos(tmp_path, 2)
    monkeypatch.setattr(f"{QUALITY}.decode", lambda vae, z: z[..., :3] + 0.02)
    for padding, error in ((4, 0), (1, np.inf)):
        pad = ((0, 0), (0, 0), (0, 0), (0, padding))
        monkeypatch.setattr(f"{QUALITY}.encode", lambda vae, x, pad=pad: np.pad(x, pad))
        quality = measure_quality(vae, photos)
        assert quality is not None
        assert (quality.images, quality.size) == ("2 photographs", 32)
        # The peak is 2, and values near 1 are clipped.
        assert quality.psnr == pytest.approx(-20 * np.log10(0.02 / 2), abs=0.3)
        assert quality.ssim > 0.99
        assert (quality.flip_error == 0) == (error == 0)
        assert all((psnr == np.inf) == (error == 0) for psnr in quality.flips.values())
        assert error == 0 or max(quality.flips.values()) < 20


def test_exact_flips_are_called_exact(tmp_path: Path):
    """Also if the model computes in bfloat16, whose rounding is far above float32's."""
    vae = with_mirrored_decoder(random_vae(AuraConfig(32, (2,), 1, 4)))
    rounding = blueprint(vae.config, jnp.dtype("bfloat16"), jnp.dtype("float32"))
    merge(nnx.graphdef(rounding), split(vae)[1]).save_pretrained(tmp_path / "model")
    assert "exact up to rounding" in (tmp_path / "model" / "README.md").read_text()


def test_a_config_that_disagrees_is_refused(saved: Path):
    change(saved, ch=64)
    message = r"expected AuraConfig\(ch=32.*, config.json says AuraConfig\(ch=64"
    with pytest.raises(CheckpointError, match=message):
        aura_jax.load(saved)
    with pytest.raises(CheckpointError, match=message):
        aura_jax.load(saved / "model.safetensors")
    change(saved, ch=33)
    with pytest.raises(CheckpointError, match=r"config: config.json is not a config: .*33"):
        aura_jax.load(saved)


def test_a_config_beside_several_checkpoints_describes_none(saved: Path):
    change(saved, ch=64)
    shutil.copy(saved / "model.safetensors", saved / "other.safetensors")
    assert aura_jax.load(saved / "model.safetensors").config == TINY_CONFIG


@pytest.mark.parametrize(
    "text", ['{"_class_name": "AutoencoderKL", "ch": 8}', "not json", "[]", ""]
)
def test_configs_of_other_programs_are_ignored(tensors: Tensors, tmp_path: Path, text: str):
    written(tmp_path / "diffusion_pytorch_model.safetensors", tensors)
    (tmp_path / "config.json").write_text(text)
    assert AuraEquiVAE.from_pretrained(tmp_path).config == TINY_CONFIG


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.write_text(""), "model: is a file; give a folder"),
        (
            lambda path: (path.mkdir(), (path / "a").touch()),
            "holds files, but no saved AuraEquiVAE",
        ),
        (
            lambda path: (path.mkdir(), (path / "config.json").write_text('{"vocab": 1}')),
            r"config.json: was not written by save_pretrained; give an empty folder",
        ),
    ],
)
def test_folders_that_are_refused(tiny_vae: AuraEquiVAE, tmp_path: Path, make, message: str):
    make(tmp_path / "model")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(AuraError, match=message):
        tiny_vae.save_pretrained(tmp_path / "model")
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_a_failed_save_leaves_no_new_folder_and_no_changed_file(
    tiny_vae: AuraEquiVAE, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    before = {name: (saved / name).read_bytes() for name in FILES}

    def fail(*args: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(saving, "save", fail)
    for folder in (saved, tmp_path / "other"):
        with pytest.raises(AuraError, match=r"cannot be written \(No space left on device\)$"):
            tiny_vae.save_pretrained(folder, photographs=[])
    assert before == {name: (saved / name).read_bytes() for name in names(saved)}
    assert not (tmp_path / "other").exists()


def test_a_photograph_that_is_none_is_named_before_anything_is_written(
    tiny_vae: AuraEquiVAE, tmp_path: Path
):
    (tmp_path / "a.jpg").write_bytes(b"none")
    for photo, message in (("a.jpg", "a.jpg"), ("b.jpg", "b.jpg: no such file")):
        with pytest.raises(AuraError, match=message):
            tiny_vae.save_pretrained(tmp_path / "model", photographs=tmp_path / photo)
    assert names(tmp_path) == ["a.jpg"]

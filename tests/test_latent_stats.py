"""Latent statistics of a model: in its files, through every conversion, and in `normalize`."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import aura_jax
from aura_jax import AuraEquiVAE, AuraError, CheckpointError, LatentStats, flip_latents
from aura_jax.cli.app import app
from aura_jax.errors import ConfigError
from aura_jax.latents import LatentSource, Statistics, denormalize, normalize
from aura_jax.training import RunSpec
from aura_jax.training.run import _model
from convert.__main__ import app as convert
from tests.cache_folder import cache, made, photos, weights
from tests.checkpoint_files import Tensors, assert_same_bits, read, written
from tests.commands import invoke
from tests.recipes import PLAIN

__all__ = ["made", "photos", "weights"]  # fixtures
MEAN = (0.1, *[0.5] * 11, *[0.0] * 4)
STATS = LatentStats(MEAN, [0.1 * (i + 1) for i in range(16)], "ten images; é")
OTHER = LatentStats(MEAN, [1.0] * 16, "eleven images")


@pytest.fixture
def vae(tiny_vae: AuraEquiVAE) -> AuraEquiVAE:
    copy = jax.tree.map(lambda x: x, tiny_vae)
    copy.latent_stats = STATS
    return copy


@pytest.fixture
def saved(vae: AuraEquiVAE, tmp_path: Path) -> Path:
    vae.save_pretrained(tmp_path / "model", photographs=[])
    return tmp_path / "model"


def change(folder: Path, **stats: object) -> None:
    """Change the statistics of config.json."""
    path = folder / "config.json"
    fields = json.loads(path.read_text())
    path.write_text(json.dumps(fields | {"latent_stats": STATS.to_dict() | stats}))


def test_they_are_arrays_of_values():
    same = LatentStats(STATS.mean, np.asarray(STATS.std), STATS.description)
    assert same == STATS != OTHER
    assert {STATS, same, OTHER} == {STATS, OTHER}
    assert (STATS.mean.shape, STATS.std.dtype) == ((16,), np.float32)
    with pytest.raises(ValueError, match="read-only"):
        STATS.mean[0] = 1


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        ([0.0] * 15 + [0.1], [1.0] * 16, "means of the last four channels"),
        ([0.0] * 16, [1.0] * 15, "16 means and 15 deviations"),
        ([0.0] * 16, [0.0] * 16, "expected finite, above 0"),
        ([np.nan] + [0.0] * 15, [1.0] * 16, "expected finite, above 0"),
        ([[0.0]] * 16, [1.0] * 16, "mean: expected a number for each channel"),
        ([0.0] * 3, [1.0] * 3, "3 means and 3 deviations"),
    ],
)
def test_statistics_that_do_not_commute_are_refused(mean, std, message: str):
    with pytest.raises(ConfigError, match=message):
        LatentStats(mean, std, "")


def test_both_files_hold_them(saved: Path, tmp_path: Path):
    for path in (saved, shutil.copy(saved / "model.safetensors", tmp_path)):
        assert AuraEquiVAE.from_pretrained(path).latent_stats == STATS
    assert json.loads((saved / "config.json").read_text())["latent_stats"] == STATS.to_dict()
    assert STATS.to_dict()["mean"] == list(MEAN)  # the shortest decimals, not those of float64
    assert "LatentStats of 16 channels: ten images" in invoke(app, "info", saved)
    assert json.loads(invoke(app, "info", saved, "--json"))["latent_stats"] == STATS.to_dict()


def test_files_that_disagree_or_are_invalid_are_refused(saved: Path):
    for changed, message in (
        ({"std": [1.0] * 16}, "config.json has other latent_stats than the file's metadata"),
        ({"mean": [1.0] * 16}, "config.json is not a config: means of the last four channels"),
        ({"mean": "zero"}, "config.json is not a config: mean: expected a number"),
        ({"mean": [0.0] * 8, "std": [1.0] * 8}, "latent_stats of 8 channels, but the model's"),
        ({"count": 1}, "config.json is not a config: .*unexpected keyword argument 'count'"),
    ):
        change(saved, **changed)
        with pytest.raises(CheckpointError, match=message):
            aura_jax.load(saved)
        with pytest.raises(CheckpointError, match=message):
            invoke(app, "info", saved)


def test_a_config_file_describes_tensors_without_metadata(tensors: Tensors, saved: Path):
    written(saved / "model.safetensors", tensors)
    assert aura_jax.load(saved).latent_stats == STATS


def test_statistics_of_another_type_are_refused(vae: AuraEquiVAE, tmp_path: Path):
    four = LatentStats([0.0] * 4, [1.0] * 4, "")
    for stats, message in ((1, "of type int, expected LatentStats"), (four, "latent_stats of 4")):
        vae.latent_stats = stats  # pyright: ignore[reportAttributeAccessIssue]
        with pytest.raises(AuraError, match=message):
            vae.save_pretrained(tmp_path / "model", photographs=[])
        with pytest.raises(AuraError, match=message):
            aura_jax.save(vae, tmp_path / "model.safetensors")
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("layout", ["flax", "torch"])
def test_conversions_keep_them(vae: AuraEquiVAE, tmp_path: Path, layout: str):
    first, there, back = (tmp_path / f"{name}.safetensors" for name in ("first", "there", "back"))
    aura_jax.save(vae, first)
    invoke(convert, first, there, "--layout", layout, "--param-dtype", "f32")
    invoke(convert, there, back, "--param-dtype", "bf16")
    for path in (there, back):
        assert aura_jax.load(path, param_dtype="f16").latent_stats == STATS
    assert_same_bits(read(first), read(back))
    assert first.read_bytes() == back.read_bytes()


def test_a_checkpoint_without_them_is_as_before(tiny_vae: AuraEquiVAE, tmp_path: Path):
    assert tiny_vae.latent_stats is None
    aura_jax.save(tiny_vae, tmp_path / "a.safetensors")
    assert b"latent_stats" not in (tmp_path / "a.safetensors").read_bytes()
    assert aura_jax.load(tmp_path / "a.safetensors").latent_stats is None


def test_training_drops_those_of_its_first_weights(saved: Path):
    assert _model(RunSpec("photos", PLAIN, init=str(saved))).latent_stats is None


def test_the_file_of_a_config_may_have_them(saved: Path):
    from aura_jax.cli.train import _read_config

    assert _read_config(str(saved / "config.json")).ch_mult == (1, 2)


def test_one_compilation_serves_checkpoints_with_and_without_statistics(
    vae: AuraEquiVAE, monkeypatch: pytest.MonkeyPatch
):
    traced, z = [], jnp.zeros((1, 3, 5, 16))
    monkeypatch.setattr(AuraEquiVAE, "decode", lambda vae, z: traced.append(z.shape) or z)
    for stats in (STATS, OTHER, None):
        vae.latent_stats = stats
        aura_jax.decode(vae, z)
        assert vae.latent_stats is stats
    assert traced == [z.shape]


def test_a_users_jit_takes_each_models_own(vae: AuraEquiVAE):
    z = jnp.ones((1, 2, 2, 16))
    divide = jax.jit(lambda vae, z: normalize(z, vae))
    first = divide(vae, z)
    vae.latent_stats = OTHER
    np.testing.assert_allclose(divide(vae, z)[..., 12:], 1.0)
    np.testing.assert_allclose(
        first[..., 12:], 1 / np.broadcast_to(STATS.std[12:], (1, 2, 2, 4)), rtol=1e-6
    )


@pytest.mark.parametrize("array", [np.asarray, jnp.asarray])
def test_normalize_takes_a_model_its_statistics_or_a_caches(
    vae: AuraEquiVAE, array: Callable[[np.ndarray], np.ndarray | jax.Array]
):
    z = array(np.random.default_rng(0).normal(size=(2, 3, 4, 16)).astype(np.float32))
    of_cache = Statistics(1, tuple(STATS.mean.tolist()), tuple(STATS.std.tolist()), {}, 0.0)
    expected = (np.asarray(z) - STATS.mean) / STATS.std
    for statistics in (vae, STATS, of_cache):
        normal = normalize(z, statistics)
        assert type(normal) is type(z)
        np.testing.assert_allclose(normal, expected, rtol=1e-6)
        np.testing.assert_allclose(denormalize(normal, statistics), z, rtol=1e-5, atol=1e-6)
    flipped = normalize(flip_latents(z, horizontal=True), vae)
    np.testing.assert_array_equal(flipped, flip_latents(normalize(z, vae), horizontal=True))


def test_a_cache_gives_a_model_its_statistics(made: Path, vae: AuraEquiVAE, tmp_path: Path):
    folder = shutil.copytree(made, tmp_path / "latents")
    with pytest.raises(AuraError, match="no statistics yet; run aura-jax cache stats"):
        _ = LatentSource(folder).latent_stats
    cache("stats", folder)
    source = LatentSource(folder)
    vae.latent_stats = source.latent_stats
    np.testing.assert_allclose(vae.latent_stats.mean, source.statistics.mean, rtol=1e-6)
    np.testing.assert_allclose(vae.latent_stats.std, source.statistics.std, rtol=1e-6)
    assert vae.latent_stats.description.startswith(
        "11 images of 16 x 16 (largest centered square, Lanczos), encoded in float32 and stored in "
        "bfloat16; mean and standard deviation over all pixels of each latent and its three flips"
    )
    aura_jax.save(vae, tmp_path / "model.safetensors")
    assert aura_jax.load(tmp_path / "model.safetensors").latent_stats == source.latent_stats


def test_a_model_without_statistics_says_how_to_get_them(tiny_vae: AuraEquiVAE):
    with pytest.raises(AuraError, match=r"the model has no latent_stats: measure them with"):
        normalize(np.zeros((1, 16), np.float32), tiny_vae)

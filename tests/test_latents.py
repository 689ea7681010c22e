"""Cached latents flip for free: exactly the group's action, in every loader."""

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import grain
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import aura_jax
from aura_jax import AuraError, flip_images, flip_latents
from aura_jax.errors import ArrayError, CacheError
from aura_jax.latents import LatentSource, RandomFlip, denormalize, normalize
from aura_jax.latents.measure import Moments
from aura_jax.latents.quantize import dequantize, quantize
from aura_jax.latents.spec import STORAGE_DTYPES
from convert.tolerances import EQUIVARIANCE, NOT_EQUIVARIANT
from tests.cache_folder import (
    cache,
    contents,
    fake_encoder,
    finished,
    local,
    made,
    photos,
    weights,
)
from tests.conftest import ROOT
from tests.mirrored import with_mirrored_decoder

__all__ = ["made", "photos", "weights"]  # fixtures
FLIPS = [(True, False), (False, True), (True, True)]


@pytest.fixture(scope="module")
def measured(made: Path) -> Path:
    """The cache with its statistics."""
    out = made.parent / "measured"
    out.mkdir()
    for name, data in contents(made).items():
        (out / name).write_bytes(data)
    cache("stats", out)
    return out


def latents(seed: int = 0, count: int = 5) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(0.7, 3, (count, 4, 6, 16)).clip(-8, 8).astype(np.float32)


@pytest.mark.parametrize("dtype", STORAGE_DTYPES, ids=str)
@pytest.mark.parametrize(("horizontal", "vertical"), FLIPS)
def test_flips_commute_with_every_type(dtype: np.dtype, horizontal: bool, vertical: bool) -> None:
    z, flags = latents(), {"horizontal": horizontal, "vertical": vertical}
    before = quantize(flip_latents(z, **flags), dtype)
    after = flip_latents(quantize(z, dtype), **flags)
    assert before.dtype == after.dtype == dtype
    assert before.tobytes() == after.tobytes()
    np.testing.assert_array_equal(
        dequantize(after), flip_latents(dequantize(quantize(z, dtype)), **flags)
    )


def test_eight_bits_hold_the_limits_exactly() -> None:
    limits = np.array([-8, 0, 8], np.float32)
    for dtype in STORAGE_DTYPES:
        np.testing.assert_allclose(dequantize(quantize(limits, dtype)), limits, rtol=1e-7)


@pytest.mark.parametrize(("horizontal", "vertical"), FLIPS)
def test_a_flipped_stored_latent_decodes_to_the_flipped_image(
    made: Path, weights: Path, horizontal: bool, vertical: bool
) -> None:
    flip = RandomFlip(p_horizontal=float(horizontal), p_vertical=float(vertical))
    source, rng = LatentSource(made), np.random.default_rng(0)
    samples = [source[i] for i in range(4)]
    z = np.stack([sample["latent"] for sample in samples])
    flipped = np.stack([flip.random_map(sample, rng)["latent"] for sample in samples])
    vae = with_mirrored_decoder(aura_jax.load(weights, dtype=jnp.float32, param_dtype=jnp.float32))
    expected = flip_images(
        np.asarray(aura_jax.decode(vae, z)), horizontal=horizontal, vertical=vertical
    )

    def error(latent: np.ndarray) -> float:
        off = np.asarray(aura_jax.decode(vae, latent)) - expected
        return float(np.linalg.norm(off) / np.linalg.norm(expected))

    assert error(flipped) < EQUIVARIANCE
    unsigned = flip_images(z, horizontal=horizontal, vertical=vertical)
    assert error(unsigned) > NOT_EQUIVARIANT


def test_in_grain(made: Path) -> None:
    source = aura_jax.latents.LatentSource(made)
    flip = aura_jax.latents.RandomFlip()
    data, other = (
        grain.MapDataset.source(source).seed(seed).shuffle().random_map(flip).batch(11)
        for seed in (0, 1)
    )
    batch: Any = data[0]
    assert batch["latent"].shape == (11, 8, 8, 16)
    by_key = {source[i]["key"]: source[i]["latent"] for i in range(11)}
    flips = 0
    for key, label, z in zip(batch["key"], batch["label"], batch["latent"], strict=True):
        original = by_key[str(key)]
        flipped = flip_latents(original, horizontal=True)
        assert np.array_equal(z, original) != np.array_equal(z, flipped)
        assert str(label) == str(key).split("/")[0]
        flips += np.array_equal(z, flipped)
    assert 0 < flips < 11
    again: Any = other[0]
    assert not np.array_equal(again["latent"], batch["latent"])


def test_in_grains_loader(made: Path) -> None:
    loader = grain.DataLoader(
        data_source=LatentSource(made),
        sampler=grain.samplers.IndexSampler(11, shuffle=True, seed=0, num_epochs=1),
        operations=[RandomFlip(1.0), grain.transforms.Batch(11)],
        worker_count=0,
    )
    (batch,) = loader
    source = LatentSource(made)
    for i in range(11):
        (place,) = np.flatnonzero(batch["key"] == source[i]["key"])
        np.testing.assert_array_equal(
            batch["latent"][place], flip_latents(source[i]["latent"], horizontal=True)
        )


def test_grain_may_be_imported_later() -> None:
    """Its DataLoader takes a flip made after the import, or pickled, as its workers have it."""
    code = """
import pickle
from aura_jax.latents import RandomFlip
early = pickle.dumps(RandomFlip(0.25))
import sys
assert "grain" not in sys.modules
import grain
assert isinstance(pickle.loads(early), grain.transforms.RandomMap)
assert pickle.loads(early) == RandomFlip(0.25, 0.0)
"""
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": str(ROOT)})


def test_probabilities() -> None:
    rng, z = np.random.default_rng(0), latents(count=1)[0]
    seen = {(h, v): 0 for h in (False, True) for v in (False, True)}
    flip = RandomFlip(p_horizontal=0.25, p_vertical=0.5)
    for _ in range(800):
        out = flip.random_map({"latent": z, "key": "x"}, rng)
        assert out["key"] == "x"
        for h, v in seen:
            seen[h, v] += np.array_equal(out["latent"], flip_latents(z, horizontal=h, vertical=v))
    expected = {(False, False): 300, (True, False): 100, (False, True): 300, (True, True): 100}
    assert sum(seen.values()) == 800
    assert all(abs(seen[flips] - count) < 60 for flips, count in expected.items())
    for p in (-0.1, 1.1, float("nan")):
        with pytest.raises(AuraError, match=r"p_vertical=.*: expected a probability"):
            RandomFlip(p_vertical=p)


def test_a_batch_is_not_flipped_as_one() -> None:
    rng = np.random.default_rng(0)
    for batch in (latents(), latents()[0].tolist(), torch.zeros(2, 2, 16)):
        with pytest.raises(AuraError, match=r"expected a numpy array \[h, w, 16\]; flip before"):
            RandomFlip().random_map({"latent": batch}, rng)


def test_torch_tensors_through_numpy() -> None:
    """A WebDataset loader may yield tensors; numpy views of them need no code for torch."""
    z = torch.from_numpy(latents(count=1)[0])
    sample = {"latent": z.numpy(), "label": 3}
    flipped = RandomFlip(1.0).random_map(sample, np.random.default_rng(0))
    expected = torch.flip(z, [1])
    expected[..., -4:-2] *= -1
    assert torch.equal(torch.from_numpy(flipped["latent"]), expected)


def test_statistics_are_those_of_all_flips(measured: Path) -> None:
    """Against two passes in float64 over every latent and its three flips."""
    source = LatentSource(measured)
    z = np.stack([source[i]["latent"] for i in range(len(source))]).astype(np.float64)
    flips = [(False, False), *FLIPS]
    orbit = np.concatenate([flip_latents(z, horizontal=h, vertical=v) for h, v in flips])
    numbers, found = orbit.reshape(-1, 16), source.statistics
    np.testing.assert_allclose(found.std, numbers.std(axis=0), rtol=1e-6)
    np.testing.assert_allclose(found.mean, numbers.mean(axis=0), rtol=1e-6, atol=1e-12)
    assert found.mean[-4:] == (0, 0, 0, 0)
    assert any(found.mean[:-4])
    for level, quantile in found.quantiles.items():
        expected = np.quantile(numbers, float(level), axis=0, method="inverted_cdf")
        np.testing.assert_allclose(quantile, expected, atol=2 / 256)
    assert found.count == 11
    assert found.clamped == 0


def test_one_pass_is_stable_far_from_zero() -> None:
    """Small deviations around a large mean, in uneven batches: E[x²] - E[x]² would lose them."""
    z = (7.5 + 1e-5 * latents(count=40)).astype(np.float64)
    moments = Moments(16)
    for part in np.split(z, [1, 4, 30]):
        moments.add(part)
    found, numbers = moments.result(40, 640), z.reshape(-1, 16)
    np.testing.assert_allclose(found.std[:12], numbers.std(axis=0)[:12], rtol=1e-6)
    np.testing.assert_allclose(found.mean[:12], numbers.mean(axis=0)[:12], rtol=1e-12)
    assert found.clamped == 640 / z.size


def test_clamped_numbers_are_counted(tmp_path: Path, photos: Path, weights: Path) -> None:
    """The model here has latents far beyond the limit."""

    def loud(*args: Any):
        encode = fake_encoder(*args)
        return lambda images: (6 * encode(images)).clip(-8, 8)

    finished(photos, tmp_path / "out", weights, executor=local(loud), storage_dtype="int8")
    cache("stats", tmp_path / "out")
    source = LatentSource(tmp_path / "out")
    z = np.stack([source.stored(i)[0] for i in range(11)])
    share = (np.abs(z) == 127).mean()
    assert 0.05 < source.statistics.clamped <= share
    assert share - source.statistics.clamped < 0.02  # those that were rounded up to it


def test_normalizing_commutes_with_flips(measured: Path) -> None:
    source = LatentSource(measured)
    z, statistics = source[2]["latent"], source.statistics
    normal = normalize(z, statistics)
    assert isinstance(normal, np.ndarray)
    assert normal.dtype == np.float32
    for horizontal, vertical in FLIPS:
        flags = {"horizontal": horizontal, "vertical": vertical}
        np.testing.assert_array_equal(
            normalize(flip_latents(z, **flags), statistics), flip_latents(normal, **flags)
        )
    np.testing.assert_allclose(denormalize(normal, statistics), z, rtol=1e-5, atol=1e-5)
    traced = jax.jit(lambda x: denormalize(normalize(x, statistics), statistics))(z[None])
    np.testing.assert_allclose(traced[0], z, rtol=1e-5, atol=1e-5)
    with pytest.raises(ArrayError, match=r"shape \(8, 8, 4\) .*: expected 16 channels on the last"):
        normalize(z[..., :4], statistics)
    with pytest.raises(ArrayError, match="dtype int8: expected bfloat16"):
        normalize(quantize(z, np.dtype(np.int8)), statistics)


def test_statistics_that_do_not_commute_are_refused(measured: Path, made: Path) -> None:
    good = LatentSource(measured).statistics
    for changes, message in (
        ({"mean": (*good.mean[:-1], 0.1)}, r"last four channels.*must be 0"),
        ({"std": (0.0, *good.std[1:])}, "expected finite, above 0"),
        ({"std": good.std[1:]}, "16 means and 15 deviations"),
    ):
        with pytest.raises(CacheError, match=message):
            dataclasses.replace(good, **changes)
    with pytest.raises(CacheError, match="no statistics yet; run aura-jax cache stats"):
        _ = LatentSource(made).statistics

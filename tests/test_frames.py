"""Frame averaging makes any model commute with the flips, and changes nothing else."""

import copy
import pickle
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import aura_jax
from aura_jax import AuraEquiVAE, AuraError, Codec, equivariant, flip_images, flip_latents
from aura_jax.arrays import relative_error
from aura_jax.symmetry import FLIPS, Flip
from convert.tolerances import BF16_ROUNDINGS, FP32_PARITY, NOT_EQUIVARIANT
from tests.random_models import random_vae

FLIPPED = [pytest.param(flip, id=name) for name, flip in FLIPS.items() if name != "none"]


@pytest.fixture(scope="module")
def vae() -> AuraEquiVAE:
    """A model whose parameters have no symmetry, and which halves an image once."""
    return random_vae(aura_jax.AuraConfig(ch=32, ch_mult=(1, 2), num_res_blocks=1))


@pytest.fixture(scope="module")
def averaged(vae: AuraEquiVAE) -> AuraEquiVAE:
    return equivariant(vae)


def latents(b: int = 3, h: int = 5, w: int = 7) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(b, h, w, 16)).astype(np.float32)


def photographs(b: int = 3, h: int = 10, w: int = 14) -> np.ndarray:
    return np.random.default_rng(1).uniform(-1, 1, (b, h, w, 3)).astype(np.float32)


def error(a: jax.Array | np.ndarray, b: jax.Array | np.ndarray) -> float:
    return relative_error(np.asarray(a, np.float32), np.asarray(b, np.float32))


def decibels(a: jax.Array | np.ndarray, b: jax.Array | np.ndarray) -> float:
    """The PSNR of two arrays over a range of 2."""
    return -10 * np.log10(np.mean((np.asarray(a, np.float64) - np.asarray(b)) ** 2) / 4)


@pytest.mark.parametrize("flip", FLIPPED)
def test_both_networks_commute_with_flips(
    vae: AuraEquiVAE, averaged: AuraEquiVAE, flip: Flip
) -> None:
    z, x = latents(), photographs()
    for model in (averaged, vae):
        decoded = aura_jax.decode(model, flip_latents(z, **flip))
        encoded = aura_jax.encode(model, flip_images(x, **flip))
        pairs = (
            (decoded, flip_images(aura_jax.decode(model, z), **flip)),
            (encoded, flip_latents(aura_jax.encode(model, x), **flip)),
        )
        if model is averaged:
            assert min(decibels(*pair) for pair in pairs) >= 120
        else:
            assert min(error(*pair) for pair in pairs) > NOT_EQUIVARIANT


def test_it_is_the_mean_over_the_flips(vae: AuraEquiVAE, averaged: AuraEquiVAE) -> None:
    z, x = latents(), 3 * photographs()  # so that some latents are clamped
    x = x.clip(-1, 1)
    decoded, encoded = (
        [undo(run(vae, act(value, **flip)), **flip) for flip in FLIPS.values()]
        for run, value, act, undo in (
            (aura_jax.decode, z, flip_latents, flip_images),
            (aura_jax.encode, x, flip_images, flip_latents),
        )
    )
    assert error(aura_jax.decode(averaged, z), np.mean(decoded, axis=0)) <= FP32_PARITY
    assert error(aura_jax.encode(averaged, x), np.mean(encoded, axis=0)) <= FP32_PARITY


def test_bfloat16_is_as_exact_as_its_rounding(vae: AuraEquiVAE) -> None:
    codec, z = Codec(equivariant(vae), dtype="bfloat16"), latents(1)
    for flip in FLIPS.values():
        flipped = codec.decode(flip_latents(z, **flip))
        assert flipped.dtype == jnp.bfloat16
        assert error(flipped, flip_images(codec.decode(z), **flip)) <= BF16_ROUNDINGS


def test_codec(averaged: AuraEquiVAE) -> None:
    codec, x = Codec(averaged), photographs()
    z = aura_jax.encode(averaged, x)
    assert error(codec.encode(x), z) <= FP32_PARITY
    for other in (codec, copy.copy(codec), pickle.loads(pickle.dumps(codec))):
        assert error(other.decode(z), aura_jax.decode(averaged, z)) <= FP32_PARITY
        assert repr(other).startswith("Codec(equivariant, ")


def test_images_are_cut_to_whole_latents_first(averaged: AuraEquiVAE) -> None:
    x = photographs(h=11, w=15)
    z = aura_jax.encode(averaged, x)
    assert (z == aura_jax.encode(averaged, x[:, :10, :14])).all()


def test_the_model_stays_as_it_was(vae: AuraEquiVAE, averaged: AuraEquiVAE) -> None:
    assert repr(averaged).startswith("AuraEquiVAE(equivariant, ")
    assert not repr(vae).startswith("AuraEquiVAE(equivariant")
    assert nnx.graphdef(equivariant(averaged)) == nnx.graphdef(averaged)
    shared = zip(*(jax.tree.leaves(nnx.state(model)) for model in (vae, averaged)), strict=True)
    assert all(a is b for a, b in shared)


def test_it_is_not_saved(averaged: AuraEquiVAE, tmp_path: Path) -> None:
    for save in (aura_jax.save, aura_jax.export, AuraEquiVAE.save_pretrained):
        with pytest.raises(AuraError, match="save the model that it was made from"):
            save(averaged, tmp_path / "model")
    assert not any(tmp_path.iterdir())

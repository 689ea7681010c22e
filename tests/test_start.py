"""A new model is equivariant before training, and other parameters would not be."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

import aura_jax
from aura_jax import AuraEquiVAE, flip_images, flip_latents
from aura_jax.arrays import relative_error
from aura_jax.dtypes import FLOAT32
from aura_jax.model.parameters import merge, split
from aura_jax.symmetry import FLIPS, Flip
from aura_jax.training.init import new_model, starting_point
from convert.tolerances import EQUIVARIANCE, NOT_EQUIVARIANT
from tests.conftest import TINY_CONFIG
from tests.random_models import random_vae
from tests.recipes import ONE_LEVEL, disturb

SIGNED = [flip for flip in FLIPS.values() if any(flip.values())]


@pytest.fixture(scope="module")
def plain() -> AuraEquiVAE:
    return random_vae(TINY_CONFIG)


@pytest.fixture(scope="module")
def started(plain: AuraEquiVAE) -> AuraEquiVAE:
    return jax.jit(starting_point)(plain)


def disturbed(vae: AuraEquiVAE) -> AuraEquiVAE:
    graph, params = split(vae)
    return merge(graph, disturb(params))


def commutator(vae: AuraEquiVAE, flip: Flip, act: Callable[..., Any]) -> float:
    """‖decode(g·z) - g·decode(z)‖ relative, where `act` flips z."""
    z = np.random.default_rng(0).normal(size=(2, 5, 7, 16)).astype(np.float32)
    a, b = (np.asarray(aura_jax.decode(vae, each)) for each in (act(z, **flip), z))
    return relative_error(a, flip_images(b, **flip))


@pytest.mark.parametrize("model", ["started", "vae_to_train"])
def test_decoder_starts_equivariant(model: str, request: pytest.FixtureRequest) -> None:
    """With one and with two channels in each group of the last norm."""
    vae = request.getfixturevalue(model)
    other = disturbed(vae)
    for flip in SIGNED:
        assert commutator(vae, flip, flip_latents) < EQUIVARIANCE
        assert commutator(vae, flip, flip_images) > NOT_EQUIVARIANT
        assert commutator(other, flip, flip_latents) > NOT_EQUIVARIANT


def test_encoder_of_one_level_starts_equivariant(vae_to_train: AuraEquiVAE) -> None:
    """Without downsampling there is no asymmetric padding, so the encoder is exact too."""
    x = np.random.default_rng(0).uniform(-1, 1, (2, 6, 4, 3)).astype(np.float32)
    z = np.asarray(aura_jax.encode(vae_to_train, x))
    for flip in SIGNED:
        flipped = np.asarray(aura_jax.encode(vae_to_train, flip_images(x, **flip)))
        assert relative_error(flipped, flip_latents(z, **flip)) < EQUIVARIANCE


def test_variance_of_kernels_stays(plain: AuraEquiVAE, started: AuraEquiVAE) -> None:
    before, after = (jax.tree.map(np.asarray, split(each)[1]) for each in (plain, started))
    assert before.keys() == after.keys()
    for name in before:
        ratio = np.std(after[name]) / max(np.std(before[name]), 1e-9)
        branch_end = name.endswith(("conv2.kernel", "proj_out.kernel"))
        assert "kernel" not in name or (ratio == 0 if branch_end else 0.8 < ratio < 1.2), name


def test_seeds_differ() -> None:
    first, again, other = (split(new_model(ONE_LEVEL, FLOAT32, seed))[1] for seed in (0, 0, 1))
    name = "decoder.conv_in.kernel"
    assert (first[name] == again[name]).all()
    assert not (first[name] == other[name]).any()

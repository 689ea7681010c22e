"""Training keeps a decoder symmetric, so that it commutes with flips whatever it learns."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import aura_jax
from aura_jax import AuraConfig, AuraEquiVAE, flip_images, flip_latents
from aura_jax.arrays import relative_error
from aura_jax.errors import TrainingError
from aura_jax.model.parameters import Params, merge, split
from aura_jax.symmetry import FLIPS
from aura_jax.training.step import Trainer
from aura_jax.training.symmetric import project
from convert.tolerances import EQUIVARIANCE, NOT_EQUIVARIANT
from tests.photo_folder import random_crops
from tests.random_models import random_vae
from tests.recipes import ONE_LEVEL, disturb, with_

TWO_LEVELS = AuraConfig(ch=32, ch_mult=(1, 2), num_res_blocks=1)


@pytest.fixture(scope="module")
def vae() -> AuraEquiVAE:
    """A model with kernels, biases and scales of no symmetry."""
    graph, params = split(random_vae(TWO_LEVELS))
    return merge(graph, disturb(params))


def errors(vae: AuraEquiVAE) -> list[float]:
    """The distance of decode(g·z) from g·decode(z) for each flip."""
    z = np.random.default_rng(0).normal(size=(2, 5, 7, 16)).astype(np.float32)
    decoded = np.asarray(aura_jax.decode(vae, z))
    return [
        relative_error(
            np.asarray(aura_jax.decode(vae, flip_latents(z, **flip))), flip_images(decoded, **flip)
        )
        for name, flip in FLIPS.items()
        if name != "none"
    ]


projection = jax.jit(project, static_argnums=1)


def is_symmetric(params: Params) -> bool:
    """Whether each parameter of the decoder equals its mirror images in every bit."""
    again = projection(params, "decoder")
    return all(np.array_equal(params[name], again[name]) for name in params)


def test_a_projected_decoder_commutes_with_flips(vae: AuraEquiVAE) -> None:
    graph, params = split(vae)
    projected = projection(params, "decoder")
    assert max(errors(merge(graph, projected))) <= EQUIVARIANCE
    assert min(errors(vae)) > NOT_EQUIVARIANT
    assert is_symmetric(projected)
    assert not is_symmetric(params)
    for name, param in params.items():
        if name.startswith("encoder."):
            np.testing.assert_array_equal(projected[name], param)
        else:  # the nearest: what is removed is orthogonal to what stays
            whole, kept = np.asarray(param), np.asarray(projected[name])
            assert abs(np.vdot(whole - kept, kept)) <= 1e-5 * np.vdot(whole, whole)


def test_an_encoder_is_exact_if_it_downsamples_by_two_by_two_kernels(vae: AuraEquiVAE) -> None:
    graph, params = split(vae)
    symmetric = projection(params, "encoder")
    assert _encoder_error(merge(graph, symmetric)) > NOT_EQUIVARIANT
    kernel = "encoder.down.0.downsample.conv.kernel"
    symmetric[kernel] = jnp.pad(
        project({kernel: params[kernel][:2, :2]}, "encoder")[kernel],
        ((0, 1), (0, 1), (0, 0), (0, 0)),
    )
    assert _encoder_error(merge(graph, symmetric)) <= EQUIVARIANCE


def _encoder_error(vae: AuraEquiVAE) -> float:
    """The largest distance of encode(g·x) from g·encode(x)."""
    x = np.random.default_rng(0).uniform(-1, 1, (2, 10, 14, 3)).astype(np.float32)
    z = np.asarray(aura_jax.encode(vae, x))
    return max(
        relative_error(
            np.asarray(aura_jax.encode(vae, flip_images(x, **flip))), flip_latents(z, **flip)
        )
        for flip in FLIPS.values()
    )


def test_training_keeps_it_symmetric(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the gradients are: here they are noise, which compiles faster than a network."""
    graph, params = split(random_vae(ONE_LEVEL))
    monkeypatch.setattr(Trainer, "_grads", lambda *args: ({"vae": args[-1]}, {}))
    trainer = Trainer(with_(equivariant=True), merge(graph, disturb(params)))
    trainer._lpips = disturb({name: np.zeros(x.shape, x.dtype) for name, x in params.items()})
    first = state = trainer.start()
    before = jax.tree.map(np.asarray, first.params["vae"])
    for step in range(3):
        state, _ = trainer.step(state, random_crops(), jax.random.key(step))
    after = state.params["vae"]
    assert is_symmetric(after)
    assert is_symmetric(state.ema_params)
    assert not any(np.array_equal(after[name], before[name]) for name in after)


def test_a_frozen_decoder_is_refused() -> None:
    with pytest.raises(TrainingError, match="only the encoder is trained"):
        with_(equivariant=True, train="encoder")

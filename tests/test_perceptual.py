"""VGG16 and LPIPS against torchvision and the lpips package, on random weights."""

import copy
import re
import warnings
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from aura_jax import AuraEquiVAE
from aura_jax.arrays import relative_error
from aura_jax.errors import ArrayError
from aura_jax.evaluation import Evaluator
from aura_jax.images.transforms import to_float, to_uint8
from aura_jax.model.parameters import parameters
from aura_jax.training.networks.lpips import LPIPS, load_perceptual
from aura_jax.training.networks.vgg import SHIFT
from convert.perceptual import app
from convert.tolerances import FP32_PARITY, VGG_GRADIENT
from tests.commands import invoke
from tests.photo_folder import random_crops
from tests.random_models import random_lpips

if TYPE_CHECKING:
    import lpips

SIZE = (16, 27)  # the smallest side, and one that is odd in every stage
RELUS = (3, 8, 15, 22, 29)  # the last of each stage among torchvision's features


@pytest.fixture(scope="module")
def reference() -> "lpips.LPIPS":
    """The lpips package's network with random convolutions and random heads of 0 or more."""
    import lpips  # late, since every worker of pytest imports every test, and this takes 3 s

    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module="torchvision")
        network = lpips.LPIPS(net="vgg", pretrained=False, pnet_rand=True, verbose=False)
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.1)
        if name.startswith("lin"):
            torch.nn.init.uniform_(parameter)
    return network


@pytest.fixture(scope="module")
def features(reference: "lpips.LPIPS") -> torch.nn.Sequential:
    """Return the same convolutions in the form of torchvision's vgg16."""
    import torchvision  # late, as lpips

    with torch.device("meta"):
        features = torchvision.models.vgg16(weights=None).features
    assert isinstance(features, torch.nn.Sequential)
    slices = {name.split(".", 1)[1]: t for name, t in reference.net.state_dict().items()}
    features.load_state_dict(slices, assign=True)
    return features


@pytest.fixture(scope="module")
def network(
    reference: "lpips.LPIPS",
    features: torch.nn.Sequential,
    tmp_path_factory: pytest.TempPathFactory,
) -> LPIPS:
    """Our network with the weights of these, through their files."""
    folder = tmp_path_factory.mktemp("perceptual")
    weights, heads = folder / "vgg.pth", folder / "heads.pth"
    torch.save({f"features.{name}": t for name, t in features.state_dict().items()}, weights)
    state = reference.state_dict()
    torch.save({name: state[name] for name in state if re.match(r"lin\d", name)}, heads)
    invoke(app, weights, folder / "full", "--lpips", heads)
    loaded = load_perceptual(folder / "full").lpips
    assert loaded is not None
    return loaded


@pytest.fixture(scope="module")
def shallow(network: LPIPS) -> LPIPS:
    """The first stage, for what is computed operation by operation."""
    shallow = nnx.clone(network)
    del shallow.vgg.stages[1:], shallow.heads[1:]
    return shallow


def images(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (2, *SIZE, 3)).astype(np.float32)


def nchw(x: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(x).double().permute(0, 3, 1, 2)


def nhwc(x: torch.Tensor | None) -> np.ndarray:
    assert x is not None
    return x.detach().permute(0, 2, 3, 1).numpy()


def distances_and_gradients(
    network: LPIPS, x: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Distances, and the gradient of their sum by x."""
    distances, gradient = _compiled(network, jnp.asarray(x), jnp.asarray(y))
    return np.asarray(distances), np.asarray(gradient)


def step_by_step(network: LPIPS, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    distances, pullback = jax.vjp(lambda x: network(x, y), x)
    return distances, pullback(jnp.ones_like(distances))[0]


_compiled = jax.jit(step_by_step)


def dimmed(network: LPIPS, factor: float) -> LPIPS:
    """A copy whose every feature is `factor` times that of the network without biases."""
    dim = nnx.clone(network)
    for name, parameter in parameters(nnx.state(dim.vgg)).items():
        if name.endswith("bias"):
            parameter[...] = jnp.zeros(parameter.shape)
    kernel = dim.vgg.stages[0][0].kernel
    kernel[...] = factor * kernel[...]
    return dim


def test_activations_are_torchvisions(network: LPIPS, features: torch.nn.Sequential):
    from torchvision.transforms import Normalize  # late, as lpips

    x = images(0)
    mean, deviation = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # torchvision's, for [0, 1]
    h = Normalize(mean, deviation)((nchw(x) + 1) / 2)
    expected = []
    for index, layer in enumerate(features.double()[:30]):
        h = layer(h)
        if index in RELUS:
            expected.append(nhwc(h))
    for ours, theirs in zip(network.vgg(jnp.asarray(x)), expected, strict=True):
        assert ours.shape == theirs.shape
        assert relative_error(np.asarray(ours), theirs) < FP32_PARITY


def test_distances_and_gradients_are_those_of_the_lpips_package(
    network: LPIPS, reference: "lpips.LPIPS"
):
    x, y = images(1), images(2)
    torch_x = nchw(x).requires_grad_()
    expected = reference.double()(torch_x, nchw(y))[:, 0, 0, 0]
    expected.sum().backward()
    distances, gradient = distances_and_gradients(network, x, y)
    assert relative_error(distances, expected.detach().numpy()) < FP32_PARITY
    assert relative_error(gradient, nhwc(torch_x.grad)) < VGG_GRADIENT


class NegativeCodec:
    """A codec whose reconstructions are the negatives of their images."""

    def __init__(self, vae: AuraEquiVAE):
        self.config = vae.config

    def encode(self, images: np.ndarray) -> np.ndarray:
        return to_float(images)

    def decode(self, latents: np.ndarray, *, as_uint8: bool) -> np.ndarray:
        return to_uint8(-latents)


def test_evaluations_have_the_distances_of_the_lpips_package(
    network: LPIPS,
    reference: "lpips.LPIPS",
    tiny_vae: AuraEquiVAE,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("aura_jax.evaluation.measures.Codec", NegativeCodec)
    x = random_crops(batch=1, size=16)[0]
    scores, decoded = Evaluator(tiny_vae, lpips=network)(x)
    with torch.no_grad():
        pair = (nchw(to_float(levels)[None]) for levels in (decoded, x))
        expected = reference.double()(*pair).item()
    assert scores.reconstruction.lpips == pytest.approx(expected, rel=FP32_PARITY)


def test_faint_features_are_divided_as_in_the_lpips_package(
    network: LPIPS, reference: "lpips.LPIPS"
):
    """Where norms are about the epsilon, its value and its place show."""
    x, y = images(1), images(2)
    faint = copy.deepcopy(reference).double()
    for name, parameter in faint.net.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.zeros_(parameter)
    with torch.no_grad():
        faint.get_parameter("net.slice1.0.weight").mul_(1e-10)
        expected = faint(nchw(x), nchw(y))[:, 0, 0, 0].numpy()
    distances, _ = distances_and_gradients(dimmed(network, 1e-10), x, y)
    assert relative_error(distances, expected) < FP32_PARITY


def test_equal_images_have_no_distance_and_no_gradient(shallow: LPIPS):
    x = jnp.asarray(images(0))
    distances, gradient = step_by_step(shallow, x, x)  # compiled as one, x and y round differently
    assert not distances.any()
    assert not gradient.any()


@pytest.mark.parametrize("plain", [-1.0, 0.0, 1.0])
def test_plain_images_have_finite_gradients(network: LPIPS, plain: float):
    x = np.full((2, *SIZE, 3), plain, np.float32)
    assert np.isfinite(distances_and_gradients(network, x, images(0))[1]).all()


def test_images_without_any_feature_make_no_nan_on_the_way(shallow: LPIPS):
    """A later relu would hide it, but not from jax_debug_nans or another network."""
    x, y = np.broadcast_to(SHIFT, (2, *SIZE, 3)), images(0)
    silent = dimmed(shallow, 1.0)
    with jax.debug_nans(True):  # looks at the results of single operations, if not compiled
        distances, gradient = step_by_step(silent, jnp.asarray(x), jnp.asarray(y))
    assert (distances > 0).all()
    assert not gradient.any()


def test_distances_are_float32_and_positive_in_any_type():
    network = random_lpips(jnp.bfloat16)
    del network.vgg.stages[2:], network.heads[2:]
    x, y = (jnp.asarray(images(seed), jnp.bfloat16) for seed in (0, 1))
    distances = jax.jit(lambda network, x, y: network(x, y))(network, x, y)
    assert distances.dtype == jnp.float32
    assert (distances > 0).all()


def test_images_too_small_for_the_last_stage_are_refused(network: LPIPS):
    x = jnp.zeros((1, 15, 16, 3))
    with pytest.raises(ArrayError, match=r"\(1, 15, 16, 3\): expected sides of 16 or more"):
        network(x, x)
    assert jax.eval_shape(network.vgg.first(4), x)[-1].shape == (1, 1, 2, 512)


def test_the_first_stages_are_a_copy_of_their_own(network: LPIPS):
    first = network.vgg.first(2)
    x = jnp.asarray(images(0))
    for ours, theirs in zip(first(x), network.vgg(x)[:2], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert len(first.stages) == 2
    assert len(network.vgg.stages) == 5
    for part in jax.tree.leaves(first):
        part.delete()
    assert np.isfinite(network.vgg(x)[0]).all()

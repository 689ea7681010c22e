"""Files of VGG16 and LPIPS: what loads, and what is refused."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from safetensors.numpy import load_file, save_file

from aura_jax.errors import CheckpointError
from aura_jax.model.parameters import parameters
from aura_jax.training.networks.lpips import load_perceptual
from tests.random_models import random_lpips


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files `full` and `vgg`, with and without the heads, and a pickle."""
    folder = tmp_path_factory.mktemp("perceptual")
    arrays = {name: np.asarray(p[...]) for name, p in parameters(nnx.state(random_lpips())).items()}
    save_file(arrays, folder / "full")
    save_file({n: x for n, x in arrays.items() if n.startswith("vgg.")}, folder / "vgg")
    torch.save({"x": torch.zeros(1)}, folder / "vgg.pth")
    return folder


def test_a_file_without_heads(folder: Path):
    alone, whole = (load_perceptual(folder / name) for name in ("vgg", "full"))
    assert alone.lpips is None
    assert whole.lpips is not None
    for a, b in zip(jax.tree.leaves(alone.vgg), jax.tree.leaves(whole.vgg), strict=True):
        np.testing.assert_array_equal(a, b)


def test_narrow_files_are_widened(folder: Path, tmp_path: Path):
    narrow = {name: array.astype(np.float16) for name, array in load_file(folder / "vgg").items()}
    save_file(narrow, tmp_path / "narrow")
    leaves = jax.tree.leaves(load_perceptual(tmp_path / "narrow").vgg)
    assert all(leaf.dtype == jnp.float32 for leaf in leaves)


def test_everything_wrong_with_a_file_is_named_at_once(folder: Path, tmp_path: Path):
    arrays = load_file(folder / "full")
    del arrays["vgg.stages.0.1.bias"]
    arrays["vgg.stages.5.0.bias"] = np.zeros(3, np.float32)
    arrays["vgg.stages.1.0.bias"] = np.zeros(3, np.float32)
    arrays["vgg.stages.1.1.bias"] = np.zeros(128, np.int32)
    arrays["heads.0.kernel"] = np.full((1, 1, 64, 1), np.nan, np.float32)
    save_file(arrays, tmp_path / "broken")
    with pytest.raises(CheckpointError) as error:
        load_perceptual(tmp_path / "broken")
    assert str(error.value).splitlines() == [
        f"{tmp_path / 'broken'}: not a file that `python -m convert.perceptual` wrote",
        "  misshaped: vgg.stages.1.0.bias is (3,), expected (128,)",
        "  missing: vgg.stages.0.1.bias (64,)",
        "  unexpected: vgg.stages.5.0.bias (3,)",
        "  type: vgg.stages.1.1.bias is I32, expected BF16, F16, F32, F64",
        "  not finite: heads.0.kernel has NaN or infinite values",
    ]


def test_files_of_another_kind(folder: Path, tmp_path: Path):
    with pytest.raises(CheckpointError, match=r"vgg\.pth: is a pickle.*convert\.perceptual"):
        load_perceptual(folder / "vgg.pth")
    with pytest.raises(CheckpointError, match="nowhere: "):
        load_perceptual(tmp_path / "nowhere")
    save_file({"heads.0.kernel": np.zeros((1, 1, 64, 1), np.float32)}, tmp_path / "heads")
    with pytest.raises(CheckpointError, match=r"missing: vgg\.stages\.0\.0\.bias"):
        load_perceptual(tmp_path / "heads")

"""An autoencoder whose names have a prefix, alone or inside a larger file."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aura_jax
from aura_jax import CheckpointError
from aura_jax.checkpoint.prefix import autoencoder_in
from aura_jax.checkpoint.tensors import (
    open_safetensors,
)
from aura_jax.cli.app import app
from tests.checkpoint_files import Tensors, assert_same_bits, read, written
from tests.commands import invoke


def load(path: Path, **options: Any) -> Tensors:
    """The tensors that a file loads as, in PyTorch's layout."""
    aura_jax.save(aura_jax.load(path, **options), path.with_name("plain"), layout="torch")
    return read(path.with_name("plain"))


def prefixed(tensors: Tensors, prefix: str) -> Tensors:
    return {f"{prefix}.{name}": array for name, array in tensors.items()}


@pytest.mark.parametrize(
    ("prefix", "said", "wrappers"),
    [
        ("vae", "vae", []),
        ("first_stage_model", "first_stage_model", []),
        ("model.ema", "model.ema", []),
        ("_fsdp_wrapped_module", "", ["_fsdp_wrapped_module"]),
        ("module.vae", "vae", ["module"]),
        ("vae._orig_mod", "vae", ["_orig_mod"]),
    ],
)
def test_a_prefix_of_all_names(
    tensors: Tensors, tmp_path: Path, prefix: str, said: str, wrappers: list[str]
):
    path = written(tmp_path / "prefixed", prefixed(tensors, prefix))
    assert_same_bits(load(path), tensors)
    result = json.loads(invoke(app, "info", path, "--json"))
    assert (result["prefix"], result["wrappers"]) == (said, wrappers)
    text = invoke(app, "info", path)
    assert (f'names under the prefix "{said}"' in text) == bool(said)
    assert all(wrapper in text for wrapper in wrappers)


def test_an_autoencoder_inside_a_larger_file(tensors: Tensors, tmp_path: Path):
    noise = np.zeros(3, np.float32)
    others = {
        "model.diffusion_model.out.weight": noise,
        "cond_stage_model.text_model.encoder.layers.0.weight": noise,
        "first_stage_model.loss.discriminator.main.0.weight": noise,
        "first_stage_model.loss.perceptual.encoder.bias": noise,
        "discriminator.conv.weight": noise,
        "step": np.zeros((), np.int64),
    }
    path = written(tmp_path / "pipeline", prefixed(tensors, "first_stage_model") | others)
    for prefix in ("first_stage_model", "first_stage_model."):
        assert_same_bits(load(path, prefix=prefix), tensors)
    assert "669,299 parameters" in invoke(app, "info", path, "--prefix", "first_stage_model")
    with pytest.raises(CheckpointError) as error:
        aura_jax.load(path)
    first, second, third = str(error.value).splitlines()
    assert first == f"{path}: holds an autoencoder beside other tensors"
    assert second == '  prefixes of an encoder and decoder: "first_stage_model"'
    assert "prefix=" in third
    with pytest.raises(CheckpointError, match=r'under the prefix "vae"\n.*: "first_stage_model"'):
        aura_jax.load(path, prefix="vae")


def test_a_trainers_file_with_two_autoencoders(tensors: Tensors, tmp_path: Path):
    ema = {name: np.zeros_like(array) for name, array in tensors.items()}
    loss = {"loss.lpips.weight": np.zeros(3, np.float32)}
    path = written(tmp_path / "run", tensors | loss | prefixed(ema, "ema"))
    with pytest.raises(CheckpointError, match=r'prefixes of an encoder and decoder: "", "ema"'):
        aura_jax.load(path)
    assert_same_bits(load(path, prefix="ema"), ema)
    path = written(tmp_path / "run", tensors | loss)
    assert_same_bits(load(path, prefix=""), tensors)
    with pytest.raises(CheckpointError, match=r"unexpected: loss\.lpips\.weight"):
        aura_jax.load(path)


def test_what_a_prefix_does_not_hide(tensors: Tensors, tmp_path: Path):
    """Only losses are ignored: any other tensor could change what the model computes."""
    tensors["quant_conv.weight"] = np.zeros((8, 8, 1, 1), np.float32)
    twice = prefixed(tensors, "vae") | {"module.vae.encoder.conv_in.bias": np.zeros(3, np.float32)}
    with pytest.raises(CheckpointError) as error:
        aura_jax.load(written(tmp_path / "vae", twice), prefix="vae")
    assert str(error.value).splitlines()[1:] == [
        "  duplicate: encoder.conv_in.bias",
        "  duplicate: module.encoder.conv_in.bias",
        "  unexpected: quant_conv.weight (8, 8, 1, 1)",
    ]
    both = {"module.vae.encoder.a": np.zeros(1), "vae.module.encoder.a": np.zeros(1)}
    stored = autoencoder_in(open_safetensors(written(tmp_path / "both", both)))
    assert len(stored.tensors) == 2

"""python -m convert: what it writes, what it proves, and what it refuses."""

import dataclasses
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import aura_jax
from aura_jax import AuraConfig, AuraError, CheckpointError
from aura_jax.arrays import relative_error
from aura_jax.checkpoint.hub import find_checkpoint
from convert.__main__ import app
from convert.parity import StageError, verify
from convert.source import open_source
from convert.tolerances import FP32_PARITY, FP32_STORAGE
from convert.torch_reference import TorchAuraEquiVAE
from tests.commands import invoke
from tests.conftest import CHECKPOINTS, GOLDEN_WEIGHTS, ROOT, Golden
from tests.random_models import random_vae
from tests.recipes import ONE_LEVEL

TRAINED = [find_checkpoint("small"), *CHECKPOINTS[1:]]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint in the layout of Flax, whose few stages compile fast."""
    path = tmp_path_factory.mktemp("tiny") / "tiny"
    aura_jax.save(random_vae(ONE_LEVEL, jnp.bfloat16), path)
    return path


def convert(*words: str | Path) -> str:
    return invoke(app, *words)


def test_the_twin_is_the_reference(golden: Golden):
    """Our own PyTorch model in float64 gives the golden vectors to their float32 rounding."""
    twin = TorchAuraEquiVAE(AuraConfig(32, (1, 1, 2, 4), 1))
    twin.load_state_dict(load_file(GOLDEN_WEIGHTS))
    twin.double()
    for source, target, network in (
        ("images", "latents", twin.encoder),
        ("odd_images", "odd_latents", twin.encoder),
        ("latents", "decoded", lambda z: twin.decode(z.clamp(-8, 8))),
    ):
        x = torch.from_numpy(golden[source]).permute(0, 3, 1, 2).double()
        with torch.inference_mode():
            y = network(x).permute(0, 2, 3, 1).numpy()
        assert relative_error(y, golden[target]) < FP32_STORAGE


def test_the_twin_has_the_published_tensors():
    with torch.device("meta"):
        state = TorchAuraEquiVAE(AuraConfig()).state_dict()
    assert len(state) == 232
    assert sum(tensor.numel() for tensor in state.values()) == 334_534_931


@pytest.mark.parametrize("checkpoint", TRAINED, ids=lambda path: path.name)
def test_every_stage_of_a_converted_checkpoint_matches_pytorch(checkpoint: Path, tmp_path: Path):
    """Errors of trained weights in bfloat16 are those of single roundings."""
    text = convert(checkpoint, tmp_path / "flax", "--verify")
    assert re.search(r"all \d+ stages within tolerance", text)
    assert "decoder.up.3.upsample" in text


def test_it_says_what_it_read_and_wrote_there_and_back(tmp_path: Path):
    text = convert(GOLDEN_WEIGHTS, tmp_path / "flax")
    assert "2,798,387 parameters in 168 tensors, BF16, torch layout" in text
    assert "2,798,387 parameters in 168 tensors, BF16, flax layout" in text
    convert(tmp_path / "flax", tmp_path / "back", "--layout", "torch")
    whole, returned = load_file(GOLDEN_WEIGHTS), load_file(tmp_path / "back")
    assert whole.keys() == returned.keys()
    assert all(torch.equal(whole[name], returned[name]) for name in whole)


def test_casting(tmp_path: Path):
    f32, bf16 = tmp_path / "f32", tmp_path / "bf16"
    assert "F32, flax layout" in convert(GOLDEN_WEIGHTS, f32, "--param-dtype", "float32")
    assert "BF16, torch layout" in convert(f32, bf16, "--param-dtype", "bf16", "--layout", "torch")
    whole, returned = load_file(GOLDEN_WEIGHTS), load_file(bf16)
    assert all(torch.equal(whole[name], returned[name]) for name in whole)


def test_verification_of_weights_that_rounding_changes(tiny: Path, tmp_path: Path):
    """The twin gets the weights that were written, not those before the cast."""
    generator = torch.Generator().manual_seed(0)
    fine = {
        name: t.float() * (1 + 0.01 * torch.rand(t.shape, generator=generator))
        for name, t in load_file(tiny).items()
    }
    save_file(fine, tmp_path / "fine")
    convert(tmp_path / "fine", tmp_path / "rounded", "--param-dtype", "bfloat16", "--verify")
    errors = verify(open_source(tmp_path / "fine", allow_pickle=False), tmp_path / "rounded")
    assert min(error.fp32 for error in errors) > 100 * FP32_PARITY


def test_verification_names_the_first_stage_that_differs(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    save = aura_jax.save

    def save_wrongly(vae: Any, path: Path, **options: Any) -> None:
        kernel = vae.encoder.down[0].block[0].conv2.kernel
        kernel[...] = jnp.flip(kernel[...], 1)
        save(vae, path, **options)

    monkeypatch.setattr("convert.__main__.save", save_wrongly)
    with pytest.raises(
        AuraError, match=r"^5 stages over tolerance, of which encoder\.down\.0\.block\.0 runs"
    ):
        convert(tiny, tmp_path / "wrong", "--verify")
    assert list(tmp_path.iterdir()) == []


def test_a_stage_passes_only_in_both_dtypes():
    good = StageError("stage", fp32=1e-6, torch_fp32=1e-6, bf16=1.1e-2, torch_bf16=1e-2)
    assert good.passes
    assert not dataclasses.replace(good, bf16=1.3e-2).passes
    assert not dataclasses.replace(good, fp32=4e-6).passes
    assert not dataclasses.replace(good, fp32=np.nan).passes
    assert not dataclasses.replace(good, bf16=np.nan).passes
    assert not dataclasses.replace(good, bf16=3e-3, torch_bf16=2e-3).passes  # however small


def test_errors_relative_to_zero():
    zero = np.zeros(3)
    assert relative_error(zero, zero) == 0
    assert relative_error(zero + 1, zero) == np.inf


def test_refusals_leave_nothing(tmp_path: Path):
    (tmp_path / "taken").write_bytes(b"mine")
    with pytest.raises(AuraError, match="taken: exists already"):
        convert(GOLDEN_WEIGHTS, tmp_path / "taken")
    with pytest.raises(CheckpointError, match=r"nowhere\.pt: no such file"):
        convert(tmp_path / "nowhere.pt", tmp_path / "new")
    with pytest.raises(CheckpointError, match="not a valid safetensors file"):
        convert(tmp_path / "taken", tmp_path / "new", "--allow-pickle")
    assert (tmp_path / "taken").read_bytes() == b"mine"
    assert len(list(tmp_path.iterdir())) == 1


def test_unsupported_dtypes_are_refused(tmp_path: Path):
    message = "^--param-dtype 'int8': expected bfloat16, float16 or float32"
    with pytest.raises(AuraError, match=message):
        convert(tmp_path / "nowhere.pt", tmp_path / "out", "--param-dtype", "int8")


def test_verification_without_torch_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(
        AuraError, match=r'^torch is not installed: pip install "aura-jax\[torch\]"'
    ):
        convert(tmp_path / "nowhere.pt", tmp_path / "out", "--verify")


def test_the_help_names_choices_and_defaults_and_ends_with_an_example():
    text = " ".join(convert("--help").replace("│", " ").split())
    assert "bfloat16, float16 or float32; by default" in text
    assert text.endswith(
        "Example: python -m convert vae_epoch_3_step_49501_bf16.pt aura.safetensors"
    )


def test_as_a_module_without_torch(tmp_path: Path):
    """Conversion alone needs no PyTorch."""
    no_torch = "import sys; sys.modules['torch'] = None; import runpy;"
    run = f"{no_torch} runpy.run_module('convert', run_name='__main__', alter_sys=True)"
    command = [sys.executable, "-c", run, str(GOLDEN_WEIGHTS), str(tmp_path / "out")]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")

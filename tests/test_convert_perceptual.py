"""python -m convert.perceptual: what it writes and what it refuses."""

import re
import subprocess
import sys
from pathlib import Path

import lpips
import numpy as np
import pytest
import torch
import torchvision
from safetensors.numpy import load_file
from safetensors.torch import save_file

from aura_jax.checkpoint.names import oihw
from aura_jax.errors import AuraError, CheckpointError
from convert.perceptual import app
from tests.commands import invoke
from tests.conftest import ROOT

type State = dict[str, torch.Tensor]


def convert(*words: str | Path) -> str:
    return invoke(app, *words)


@pytest.fixture(scope="module")
def state() -> State:
    """A state dict with torchvision's names and random values; its classifier is a stand-in."""
    with torch.device("meta"):
        shapes = torchvision.models.vgg16(weights=None).state_dict()
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.zeros(1)
        if name.startswith("classifier.")
        else torch.randn(shape.shape, generator=generator)
        for name, shape in shapes.items()
    }


@pytest.fixture(scope="module")
def heads() -> State:
    widths = (64, 128, 256, 512, 512)
    return {f"lin{i}.model.1.weight": torch.rand(1, c, 1, 1) for i, c in enumerate(widths)}


@pytest.mark.parametrize("write", ["torch", "legacy torch", "safetensors"])
def test_every_value_arrives(tmp_path: Path, state: State, heads: State, write: str):
    for name, tensors in (("vgg", state), ("heads", heads)):
        if write == "safetensors":
            save_file(tensors, tmp_path / name)
        else:
            zipped = write == "torch"
            torch.save(tensors, tmp_path / name, _use_new_zipfile_serialization=zipped)
    text = convert(tmp_path / "vgg", tmp_path / "out", "--lpips", tmp_path / "heads")
    assert re.fullmatch(rf"wrote {tmp_path / 'out'} \(58\.9 MB\): VGG16 and LPIPS heads\n", text)
    written = load_file(tmp_path / "out")
    given = [t for name, t in state.items() if name.startswith("features.")]
    convolutions = {name: a for name, a in written.items() if name.startswith("vgg.")}
    in_order = sorted(convolutions, key=lambda name: (*name.split(".")[:4], name.endswith("bias")))
    for name, tensor in zip(in_order, given, strict=True):
        np.testing.assert_array_equal(oihw(written[name]), tensor.numpy())
    for i, tensor in enumerate(heads.values()):
        np.testing.assert_array_equal(oihw(written[f"heads.{i}.kernel"]), tensor.numpy())
    assert len(written) == 26 + 5


def test_the_heads_that_the_lpips_package_brings(tmp_path: Path, state: State):
    published = Path(lpips.__file__).parent / "weights" / "v0.1" / "vgg.pth"
    save_file(state, tmp_path / "vgg")
    convert(tmp_path / "vgg", tmp_path / "out", "--lpips", published)
    heads = [array for name, array in load_file(tmp_path / "out").items() if "heads" in name]
    assert len(heads) == 5
    assert all((head >= 0).all() for head in heads)


def test_without_heads(tmp_path: Path, state: State):
    half = {name: tensor.to(torch.bfloat16) for name, tensor in state.items()}
    torch.save(half, tmp_path / "vgg.pth")
    assert "VGG16 without LPIPS heads" in convert(tmp_path / "vgg.pth", tmp_path / "out")
    written = load_file(tmp_path / "out")
    assert len(written) == 26
    assert {array.dtype for array in written.values()} == {np.dtype(np.float32)}


def test_everything_wrong_with_a_state_dict_is_named_at_once(tmp_path: Path, state: State):
    broken = dict(state)
    del broken["features.0.weight"]
    broken["features.1.weight"] = torch.zeros(3)
    broken["features.2.bias"] = torch.zeros(3)
    broken["features.5.bias"] = torch.zeros(128, dtype=torch.int32)
    broken["features.7.bias"] = torch.full((128,), torch.inf)
    torch.save(broken, tmp_path / "vgg.pth")
    with pytest.raises(CheckpointError) as error:
        convert(tmp_path / "vgg.pth", tmp_path / "out")
    assert str(error.value).splitlines() == [
        f"{tmp_path / 'vgg.pth'}: not the state dict of torchvision's vgg16",
        "  misshaped: features.2.bias is (3,), expected (64,)",
        "  missing: features.0.weight (64, 3, 3, 3)",
        "  not finite: features.7.bias has NaN or infinite values",
        "  type: features.5.bias is torch.int32, expected BF16, F16, F32",
        "  unexpected: features.1.weight (3,)",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["vgg.pth"]


def test_heads_of_another_network(tmp_path: Path, state: State, heads: State):
    save_file(state, tmp_path / "vgg")
    save_file({**heads, "lin0.model.1.weight": torch.rand(1, 192, 1, 1)}, tmp_path / "alex")
    with pytest.raises(CheckpointError, match=r"alex: not the LPIPS heads.*\n.*\(1, 192, 1, 1\)"):
        convert(tmp_path / "vgg", tmp_path / "out", "--lpips", tmp_path / "alex")
    with pytest.raises(CheckpointError, match=r"alex: not the state dict of torchvision's vgg16"):
        convert(tmp_path / "alex", tmp_path / "out")
    with pytest.raises(CheckpointError, match=r"unexpected: features\.0\.bias"):
        convert(tmp_path / "vgg", tmp_path / "out", "--lpips", tmp_path / "vgg")


class Harmful:
    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path("harm"),)


def test_pickles_that_are_no_state_dict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for content, message in (
        ({"features.0.bias": Harmful()}, "not a pickle that torch reads with weights_only"),
        ({"step": 3, "model": {}}, "not a state dict"),
        ([torch.zeros(1)], "not a state dict"),
        ({"features.0.bias": torch.zeros(3).to_sparse()}, "not a "),
        ({"features.0.bias": torch.zeros(3, device="meta")}, "not a "),
        ({0: torch.zeros(1)}, r"unexpected: 0 \(1,\)"),
    ):
        torch.save(content, "vgg.pth")
        with pytest.raises(CheckpointError, match=rf"^vgg\.pth: .*{message}|{message}"):
            convert("vgg.pth", "out")
    Path("vgg.pth").write_bytes(Path("vgg.pth").read_bytes()[:300])
    with pytest.raises(CheckpointError, match=r"^vgg\.pth: "):
        convert("vgg.pth", "out")
    assert [path.name for path in tmp_path.iterdir()] == ["vgg.pth"]


def test_refusals_leave_what_is_there(tmp_path: Path, state: State):
    save_file(state, tmp_path / "vgg")
    (tmp_path / "taken").write_bytes(b"mine")
    with pytest.raises(AuraError, match="taken: exists already"):
        convert(tmp_path / "vgg", tmp_path / "taken")
    with pytest.raises(CheckpointError, match=r"nowhere: No such file"):
        convert(tmp_path / "nowhere", tmp_path / "new")
    with pytest.raises(CheckpointError, match="taken: is not a sound safetensors file"):
        convert(tmp_path / "taken", tmp_path / "new")
    assert (tmp_path / "taken").read_bytes() == b"mine"
    assert "wrote" in convert(tmp_path / "vgg", tmp_path / "taken", "--overwrite")
    assert len(list(tmp_path.iterdir())) == 2


def test_as_a_module_without_torch(tmp_path: Path, state: State, heads: State):
    """Safetensors need no PyTorch; a failed run is one line that says what to do."""
    save_file(state, tmp_path / "vgg")
    torch.save(heads, tmp_path / "heads.pth")
    no_torch = "import sys; sys.modules['torch'] = None; import runpy;"
    run = f"{no_torch} runpy.run_module('convert.perceptual', run_name='__main__', alter_sys=True)"
    command = [sys.executable, "-c", run, str(tmp_path / "vgg"), str(tmp_path / "out")]
    pickle = ["--overwrite", "--lpips", str(tmp_path / "heads.pth")]
    needs = f"error: {tmp_path / 'heads.pth'}: is a pickle, which needs PyTorch: pip install torch"
    for words, code, error in (([], 0, ""), (pickle, 1, needs)):
        result = subprocess.run(
            [*command, *words], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert (result.returncode, result.stderr.strip()) == (code, error)

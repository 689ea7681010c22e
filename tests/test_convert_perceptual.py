"""python -m convert.perceptual: what it writes and what it refuses."""

import re
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from safetensors.torch import save_file

from aura_jax.checkpoint.names import oihw
from aura_jax.errors import AuraError, CheckpointError
from convert.perceptual import app
from tests.commands import invoke
from tests.conftest import ROOT

type State = dict[str, torch.Tensor]

# The convolutions among the features of torchvision's vgg16: channels in and out by index.
# test_perceptual.py converts the features of torchvision itself, which takes 3 s to import.
CONVOLUTIONS = {
    **{0: (3, 64), 2: (64, 64), 5: (64, 128), 7: (128, 128), 10: (128, 256), 17: (256, 512)},
    **dict.fromkeys((12, 14), (256, 256)),
    **dict.fromkeys((19, 21, 24, 26, 28), (512, 512)),
}


def convert(*words: str | Path) -> str:
    return invoke(app, *words)


@pytest.fixture(scope="module")
def state() -> State:
    """A state dict with torchvision's names and random values; its classifier is a stand-in."""
    generator = torch.Generator().manual_seed(0)
    state = {}
    for index, (inputs, outputs) in sorted(CONVOLUTIONS.items()):
        for name, shape in (("weight", (outputs, inputs, 3, 3)), ("bias", (outputs,))):
            state[f"features.{index}.{name}"] = torch.randn(shape, generator=generator)
    return {**state, "classifier.0.weight": torch.zeros(1), "classifier.0.bias": torch.zeros(1)}


@pytest.fixture(scope="module")
def heads() -> State:
    widths = (64, 128, 256, 512, 512)
    return {f"lin{i}.model.1.weight": torch.rand(1, c, 1, 1) for i, c in enumerate(widths)}


@pytest.mark.parametrize("write", [torch.save, save_file])
def test_every_value_arrives(tmp_path: Path, state: State, heads: State, write: Callable):
    write(state, tmp_path / "vgg")
    write(heads, tmp_path / "heads")
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
    package = find_spec("lpips")
    assert package is not None
    published = Path(str(package.origin)).parent / "weights" / "v0.1" / "vgg.pth"
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
        "  unexpected: features.1.weight (3,)",
        "  type: features.5.bias is torch.int32, expected BF16, F16, F32, F64",
        "  not finite: features.7.bias has NaN or infinite values",
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


def test_pickles_without_a_state_dict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for content, message in (
        ({"features.0.bias": Harmful()}, "torch cannot read this pickle with weights_only"),
        (
            {"step": 3, "model": {}},
            "expected one state dict with tensors of features, found only a dict",
        ),
        ([torch.zeros(1)], "found only a list"),
        ({"features.0.bias": torch.zeros(3).to_sparse()}, "cannot read|found only a dict"),
        ({"features.0.bias": torch.zeros(3, device="meta")}, "cannot read|found only a dict"),
        ({0: torch.zeros(1)}, "found only a dict"),
    ):
        torch.save(content, "vgg.pth")
        with pytest.raises(CheckpointError, match=rf"^vgg\.pth: .*({message})"):
            convert("vgg.pth", "out")
    Path("vgg.pth").write_bytes(Path("vgg.pth").read_bytes()[:300])
    with pytest.raises(CheckpointError, match=r"^vgg\.pth: "):
        convert("vgg.pth", "out")
    assert [path.name for path in tmp_path.iterdir()] == ["vgg.pth"]


def test_refusals_keep_existing_files(tmp_path: Path, state: State):
    save_file(state, tmp_path / "vgg")
    (tmp_path / "taken").write_bytes(b"mine")
    with pytest.raises(AuraError, match="taken: exists already"):
        convert(tmp_path / "vgg", tmp_path / "taken")
    with pytest.raises(CheckpointError, match=r"nowhere: no such file$"):
        convert(tmp_path / "nowhere", tmp_path / "new")
    with pytest.raises(CheckpointError, match="taken: is not a valid safetensors file"):
        convert(tmp_path / "taken", tmp_path / "new")
    assert (tmp_path / "taken").read_bytes() == b"mine"
    assert "wrote" in convert(tmp_path / "vgg", tmp_path / "taken", "--overwrite")
    assert len(list(tmp_path.iterdir())) == 2


def test_pickles_without_torch_say_what_to_install(
    tmp_path: Path, heads: State, monkeypatch: pytest.MonkeyPatch
):
    torch.save(heads, tmp_path / "heads.pth")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(
        AuraError, match=r'^torch is not installed: pip install "aura-jax\[torch\]"'
    ):
        convert(tmp_path / "heads.pth", tmp_path / "out")


def test_as_a_module_without_torch(tmp_path: Path, state: State):
    """Safetensors need no PyTorch."""
    save_file(state, tmp_path / "vgg")
    no_torch = "import sys; sys.modules['torch'] = None; import runpy;"
    run = f"{no_torch} runpy.run_module('convert.perceptual', run_name='__main__', alter_sys=True)"
    command = [sys.executable, "-c", run, str(tmp_path / "vgg"), str(tmp_path / "out")]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")

"""python -m convert on pickles, and on files that hold more than one network."""

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import aura_jax
from aura_jax import AuraEquiVAE, AuraError, CheckpointError
from convert.__main__ import app
from convert.source import open_source
from tests.commands import invoke

type State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def state(tiny_vae: AuraEquiVAE, tmp_path_factory: pytest.TempPathFactory) -> State:
    """The tensors of a tiny checkpoint, which tests must not change."""
    path = tmp_path_factory.mktemp("tiny") / "tiny"
    aura_jax.save(tiny_vae, path, layout="torch")
    return load_file(path)


def convert(*words: str | Path) -> str:
    return invoke(app, *words)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        lambda s: {"step": torch.tensor(3), "model": s},
        lambda s: {"nets": {"vae": s, "disc": {"conv.weight": torch.zeros(1)}}},
    ],
)
def test_pickles_only_when_allowed(tmp_path: Path, state: State, legacy: bool, wrap: Any):
    source, target = tmp_path / "pickle.pt", tmp_path / "out.safetensors"
    parallel = {f"module.{name}": tensor for name, tensor in state.items()}
    torch.save(wrap(parallel), source, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(CheckpointError, match=r"is a pickle.*--allow-pickle"):
        convert(source, target)
    convert(source, target, "--allow-pickle", "--layout", "torch")
    returned = load_file(target)
    assert all(torch.equal(returned[name], t) for name, t in state.items())


def test_one_of_several_state_dicts(tmp_path: Path, state: State):
    source, target = tmp_path / "run.pt", tmp_path / "out.safetensors"
    ema = {f"vae.{name}": tensor * 2 for name, tensor in state.items()}
    optimizer = {"state": {0: {"exp_avg": torch.zeros(3)}}}
    torch.save({"model": state, "nested": {"ema": ema}, "optimizer": optimizer}, source)
    words = (source, target, "--allow-pickle", "--layout", "torch")
    for more in ((), ("--key", "ema"), ("--key", "optimizer")):
        with pytest.raises(CheckpointError, match=r"found model, nested\.ema; choose one"):
            convert(*words, *more)
    assert 'names under the prefix "vae"' in convert(*words, "--key", "nested.ema")
    returned = load_file(target)
    assert all(torch.equal(returned[name], 2 * tensor) for name, tensor in state.items())
    with pytest.raises(CheckpointError, match="is not a pickle, so it has no key 'ema'"):
        convert(target, tmp_path / "other", "--key", "ema")


def test_one_network_of_a_larger_file(tmp_path: Path, state: State):
    inside = {f"first_stage_model.{name}": tensor for name, tensor in state.items()}
    source, target = tmp_path / "pipeline", tmp_path / "out"
    save_file({**inside, "model.out.bias": torch.zeros(3)}, source)
    with pytest.raises(CheckpointError, match='prefixes of an encoder and decoder: "first_stage_m'):
        convert(source, target)
    convert(source, target, "--prefix", "first_stage_model.", "--layout", "torch")
    returned = load_file(target)
    assert all(torch.equal(returned[name], tensor) for name, tensor in state.items())
    with pytest.raises(AuraError, match=r"out\.npz: the file is written as safetensors"):
        convert(source, tmp_path / "out.npz")


class Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("harm"),)


def test_pickles_that_run_code_are_refused_even_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    endless: dict[str, Any] = {}
    endless["self"] = endless
    for content, message in (
        ({"encoder": Harmful()}, "torch cannot read this pickle with weights_only"),
        (
            {"step": 3},
            "expected one state dict with tensors of encoder or decoder, found only a dict",
        ),
        ([1, 2], "found only a list"),
        ({0: torch.zeros(1), ("a",): torch.zeros(1)}, "found only a dict"),
        (endless, "torch cannot read this pickle|found only a dict"),
        (
            {"model": {"encoder.a": torch.zeros(1)}, "ema": {"decoder.a": torch.zeros(1)}},
            "model, ema",
        ),
        (
            {"encoder.conv_in.bias": torch.zeros(3).to_sparse()},
            "torch cannot read this pickle|found only a dict",
        ),
    ):
        torch.save(content, "harmful.pt")
        with pytest.raises(CheckpointError, match=message):
            convert("harmful.pt", "out.safetensors", "--allow-pickle")
    Path("harmful.pt").write_bytes(Path("harmful.pt").read_bytes()[:300])
    with pytest.raises(CheckpointError, match=r"^harmful\.pt: "):
        convert("harmful.pt", "out.safetensors", "--allow-pickle")
    assert [path.name for path in tmp_path.iterdir()] == ["harmful.pt"]


def test_a_corrupt_pickle_is_a_checkpoint_error(tmp_path: Path):
    path = tmp_path / "broken.pt"
    state = {"encoder.a": torch.zeros(2, 3), "step": 3}
    rng = np.random.default_rng(0)
    for legacy in (False, True):
        torch.save(state, path, _use_new_zipfile_serialization=not legacy)
        whole = path.read_bytes()
        for _ in range(100):
            content = bytearray(whole)
            content[rng.integers(4, len(whole))] ^= 1 << rng.integers(8)
            path.write_bytes(content[: rng.integers(5, 2 * len(whole))])
            with contextlib.suppress(CheckpointError):
                open_source(path, allow_pickle=True)


def test_non_contiguous_tensors_of_a_pickle(tmp_path: Path, state: State):
    strided = {
        name: t.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0) if t.ndim == 4 else t
        for name, t in state.items()
    }
    torch.save(strided, tmp_path / "strided.pt")
    source = open_source(tmp_path / "strided.pt", allow_pickle=True)
    for name, tensor in source.tensors.items():
        np.testing.assert_array_equal(tensor.read().astype(np.float32), state[name].float().numpy())

"""Checkpoints load exactly or not at all, and come back bit for bit."""

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax import nnx
from safetensors import safe_open
from safetensors.numpy import save_file

import aura_jax
from aura_jax import AuraConfig, AuraEquiVAE, AuraError, CheckpointError
from aura_jax.checkpoint.describe import summarize
from aura_jax.checkpoint.names import LAYOUTS, Layout, hwio, in_layout, oihw
from aura_jax.checkpoint.tensors import StoredCheckpoint, StoredTensor
from aura_jax.dtypes import FLOAT32
from aura_jax.model.parameters import blueprint, parameters, shapes_of
from tests.conftest import CHECKPOINTS, GOLDEN_CONFIG, GOLDEN_WEIGHTS, TINY_CONFIG
from tests.random_models import random_vae

type Tensors = dict[str, np.ndarray]


def read(path: Path) -> Tensors:
    with safe_open(path, "np") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  no dict


def assert_same_bits(a: Tensors, b: Tensors) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype
        np.testing.assert_array_equal(a[name].view(np.uint8), b[name].view(np.uint8), name)


@pytest.fixture(scope="module")
def whole(tiny_vae: AuraEquiVAE, tmp_path_factory: pytest.TempPathFactory) -> Tensors:
    """A tiny checkpoint in PyTorch's layout."""
    path = tmp_path_factory.mktemp("whole") / "whole"
    aura_jax.save(tiny_vae, path, layout="torch")
    return read(path)


@pytest.fixture
def tensors(whole: Tensors) -> Tensors:
    """A copy to be broken and written; its arrays are replaced, never changed."""
    return dict(whole)


def written(path: Path, tensors: Tensors, **metadata: str) -> Path:
    save_file(tensors, path, metadata)
    return path


@pytest.mark.parametrize("checkpoint", CHECKPOINTS, ids=lambda path: path.name)
def test_torch_to_flax_to_torch_restores_every_bit(checkpoint: Path, tmp_path: Path):
    aura_jax.save(aura_jax.load(checkpoint), tmp_path / "flax")
    aura_jax.save(aura_jax.load(tmp_path / "flax"), tmp_path / "torch", layout="torch")
    assert_same_bits(read(tmp_path / "torch"), read(checkpoint))


def test_equal_models_are_equal_files(tiny_vae: AuraEquiVAE, tmp_path: Path):
    for layout in LAYOUTS:
        for i in range(8):
            aura_jax.save(tiny_vae, tmp_path / str(i), layout=layout)
        assert len({(tmp_path / str(i)).read_bytes() for i in range(8)}) == 1


def test_flax_layout_has_flax_names_axes_and_the_config(tmp_path: Path):
    aura_jax.save(aura_jax.load(GOLDEN_WEIGHTS), tmp_path / "flax")
    flax, torch = read(tmp_path / "flax"), read(GOLDEN_WEIGHTS)
    kernel, weight = flax["encoder.conv_in.kernel"], torch["encoder.conv_in.weight"]
    assert kernel.shape == (3, 3, 3, 32)
    for tap in np.ndindex(3, 3):
        np.testing.assert_array_equal(kernel[tap], weight[:, :, *tap].T)
    np.testing.assert_array_equal(flax["encoder.norm_out.scale"], torch["encoder.norm_out.weight"])
    with safe_open(tmp_path / "flax", "np") as file:
        assert AuraConfig.from_json(file.metadata()["config"]) == GOLDEN_CONFIG


def test_axes_are_inverse_and_contiguous():
    """safetensors writes the memory of a strided array, which is another array."""
    weight = np.arange(2 * 3 * 5 * 7).reshape(2, 3, 5, 7)
    assert hwio(weight).shape == (5, 7, 3, 2)
    assert hwio(weight).flags.c_contiguous
    assert oihw(hwio(weight)).flags.c_contiguous
    np.testing.assert_array_equal(oihw(hwio(weight)), weight)


def test_types(tensors: Tensors, tmp_path: Path):
    dtypes = {p[...].dtype for p in parameters(nnx.state(aura_jax.load(GOLDEN_WEIGHTS))).values()}
    assert dtypes == {jnp.dtype(jnp.bfloat16)}
    path = written(tmp_path / "tiny", tensors)
    vae = aura_jax.load(path, dtype=jnp.bfloat16, param_dtype=jnp.float32)
    assert {p[...].dtype for p in parameters(nnx.state(vae)).values()} == {jnp.dtype("float32")}
    z = aura_jax.encode(vae, jnp.zeros((1, 8, 8, 3)))
    assert z.dtype == jnp.bfloat16
    default = aura_jax.encode(aura_jax.load(path), jnp.zeros((1, 8, 8, 3)))
    assert default.dtype == (jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16)


@pytest.mark.parametrize(
    "name",
    [
        "module.{}.{}",
        "_orig_mod.{}.{}",
        "module._orig_mod.{}.{}",
        "module.{}._orig_mod.{}",
        "{}._orig_mod.module.{}",
    ],
)
def test_wrappers_prefixes_are_stripped(tensors: Tensors, tmp_path: Path, name: str):
    wrapped = {name.format(*key.split(".", 1)): value for key, value in tensors.items()}
    vae = aura_jax.load(written(tmp_path / "wrapped", wrapped))
    aura_jax.save(vae, tmp_path / "plain", layout="torch")
    assert_same_bits(read(tmp_path / "plain"), tensors)


@pytest.mark.parametrize(
    "config",
    [
        TINY_CONFIG,
        AuraConfig(64, (1, 1, 1), 3, 8, in_channels=1, out_channels=4),
        AuraConfig(32, (2,), 1, 4),
    ],
)
@pytest.mark.parametrize("layout", ["torch", "flax"])
def test_the_config_is_read_off_shapes(tmp_path: Path, config: AuraConfig, layout: Any):
    aura_jax.save(random_vae(config), tmp_path / "made", layout=layout)
    bare = written(tmp_path / "bare", read(tmp_path / "made"))
    assert aura_jax.load(bare).config == config
    assert aura_jax.load(bare, config=config).config == config


def test_one_error_lists_every_problem(tensors: Tensors, tmp_path: Path):
    del tensors["encoder.down.0.block.0.norm1.bias"], tensors["decoder.mid.attn_1.qkv.weight"]
    tensors["decoder.loose"] = np.zeros(3, np.float32)
    tensors["encoder.mid.block_1.conv1.weight"] = np.zeros((64, 64, 1, 1), np.float32)
    with pytest.raises(CheckpointError) as error:
        aura_jax.load(written(tmp_path / "broken", tensors))
    assert str(error.value).splitlines() == [
        f"{tmp_path / 'broken'}: not a usable AuraEquiVAE checkpoint",
        "  misshaped: encoder.mid.block_1.conv1.weight is (64, 64, 1, 1), expected (64, 64, 3, 3)",
        "  missing: decoder.mid.attn_1.qkv.weight (192, 64, 1, 1)",
        "  missing: encoder.down.0.block.0.norm1.bias (32,)",
        "  unexpected: decoder.loose (3,)",
    ]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_named(tensors: Tensors, tmp_path: Path, value: float):
    for name in ("encoder.conv_out.bias", "decoder.norm_out.weight"):
        tensors[name] = tensors[name].copy()
        tensors[name][5] = value
    with pytest.raises(CheckpointError) as error:
        aura_jax.load(written(tmp_path / "broken", tensors))
    assert str(error.value).splitlines()[1:] == [
        "  not finite: decoder.norm_out.weight has NaN or infinite values",
        "  not finite: encoder.conv_out.bias has NaN or infinite values",
    ]


def test_a_cast_that_overflows_is_named(tensors: Tensors, tmp_path: Path):
    tensors["encoder.conv_out.bias"] = np.full(16, 1e9, ml_dtypes.bfloat16)
    path = written(tmp_path / "large", tensors)
    aura_jax.load(path)
    with pytest.raises(CheckpointError, match=r"encoder\.conv_out\.bias has NaN or infinite"):
        aura_jax.load(path, param_dtype=jnp.float16)


def test_duplicates_are_named(tensors: Tensors, tmp_path: Path):
    tensors["module.encoder.conv_in.bias"] = tensors["encoder.conv_in.bias"]
    with pytest.raises(CheckpointError) as error:
        aura_jax.load(written(tmp_path / "twice", tensors))
    names = ("encoder.conv_in.bias", "module.encoder.conv_in.bias")
    assert str(error.value).splitlines()[1:] == [f"  duplicate: {name}" for name in names]


def test_one_error_lists_problems_of_every_kind(tensors: Tensors, tmp_path: Path):
    del tensors["decoder.conv_out.weight"]
    tensors["module.encoder.norm_out.bias"] = tensors["encoder.norm_out.bias"]
    tensors["encoder.conv_in.bias"] = np.zeros(32, np.int32)
    tensors["encoder.norm_out.weight"] = np.full(64, np.nan, np.float32)
    with pytest.raises(CheckpointError) as error:
        aura_jax.load(written(tmp_path / "broken", tensors))
    kinds = [line.split(":")[0].strip() for line in str(error.value).splitlines()[1:]]
    assert kinds == ["duplicate", "duplicate", "missing", "type", "not finite"]


ONE_LEVEL = AuraConfig(64, (1,), 1)


def summary_of_shapes(
    shapes: Mapping[str, tuple[int, ...]], config: AuraConfig | None = None
) -> list[str]:
    """The lines about a file with tensors of these shapes, whose metadata may have a config."""
    tensors = {n: StoredTensor(shape, "F32", pytest.fail) for n, shape in shapes.items()}
    metadata = {} if config is None else {"config": config.to_json()}
    with pytest.raises(CheckpointError) as error:
        summarize(StoredCheckpoint("file", tensors, metadata))
    return str(error.value).splitlines()[1:]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_missing_tensor_is_named_and_no_other(layout: Layout):
    shapes = in_layout(shapes_of(blueprint(ONE_LEVEL, FLOAT32, FLOAT32)), layout)
    for name in shapes:
        rest = {other: shape for other, shape in shapes.items() if other != name}
        assert summary_of_shapes(rest) == [f"  missing: {name} {shapes[name]}"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_misshaped_tensor_is_named_and_no_other(layout: Layout):
    """If shapes disagree, metadata decides, and a line says that the shapes do."""
    shapes = in_layout(shapes_of(blueprint(ONE_LEVEL, FLOAT32, FLOAT32)), layout)
    for name, shape in shapes.items():
        larger = tuple(size + 1 for size in shape)
        *contradictions, problem = summary_of_shapes({**shapes, name: larger}, ONE_LEVEL)
        assert problem == f"  misshaped: {name} is {larger}, expected {shape}"
        assert all("its shapes say" in line for line in contradictions)


def test_shapes_of_no_model_ask_for_the_config(tensors: Tensors, tmp_path: Path):
    tensors["encoder.conv_in.bias"] = np.zeros(33, np.float32)
    path = written(tmp_path / "broken", tensors)
    message = (
        r"broken:\n  config: .*\(no model has the shapes of its tensors: .*\); if .*, give config="
    )
    with pytest.raises(CheckpointError, match=message):
        aura_jax.load(path)
    with pytest.raises(CheckpointError) as error:
        aura_jax.load(path, config=TINY_CONFIG)
    assert str(error.value).splitlines()[1:] == [
        "  misshaped: encoder.conv_in.bias is (33,), expected (32,)"
    ]
    other = written(tmp_path / "other", {"fc.weight": np.zeros((2, 2), np.float32)})
    with pytest.raises(CheckpointError, match=r"neither metadata nor tensors give.*give config="):
        aura_jax.load(other)


def test_dtypes_that_load_does_not_support(tensors: Tensors, tmp_path: Path):
    path = written(tmp_path / "tiny", tensors)
    for dtype in (np.int8, np.float64, jnp.complex64, "bf17", jnp.float8_e4m3fn):
        with pytest.raises(AuraError, match="expected bfloat16, float16 or float32"):
            aura_jax.load(path, dtype=dtype)
        with pytest.raises(AuraError, match="expected bfloat16, float16 or float32"):
            aura_jax.load(path, param_dtype=dtype)
    for name in ("bfloat16", "bf16", jnp.bfloat16):
        vae = aura_jax.load(path, dtype=name)
        assert vae.encoder.conv_in.dtype == jnp.dtype(jnp.bfloat16)


def test_a_config_that_the_tensors_contradict(tensors: Tensors, tmp_path: Path):
    path = written(tmp_path / "tiny", tensors)
    asked = r"expected AuraConfig\(ch=256.*, its shapes say AuraConfig\(ch=32"
    with pytest.raises(CheckpointError, match=asked):
        aura_jax.load(path, config=AuraConfig())
    path = written(tmp_path / "lying", tensors, config=AuraConfig().to_json())
    with pytest.raises(CheckpointError, match=asked):
        aura_jax.load(path)
    says = r"expected AuraConfig\(ch=32.*, the file's metadata says AuraConfig\(ch=256"
    with pytest.raises(CheckpointError, match=says) as error:
        aura_jax.load(path, config=TINY_CONFIG)
    assert len(str(error.value).splitlines()) == 2
    for text in ("{", "[1]", '{"chh": 3}', '{"ch": 33}', "null", '{"num_res_blocks": 1000000}'):
        with pytest.raises(CheckpointError, match="not a config"):
            aura_jax.load(written(tmp_path / "lying", tensors, config=text))


@pytest.mark.parametrize("dtype", [np.int32, np.float64, ml_dtypes.float8_e4m3fn])
def test_dtypes_that_parameters_cannot_have(tensors: Tensors, tmp_path: Path, dtype: np.dtype):
    tensors["encoder.conv_in.bias"] = tensors["encoder.conv_in.bias"].astype(dtype)
    path = written(tmp_path / "typed", tensors)
    with pytest.raises(CheckpointError, match=r"type: encoder\.conv_in\.bias is .*, expected BF16"):
        aura_jax.load(path)
    if dtype == np.float64:
        aura_jax.load(path, param_dtype=jnp.float32)
    else:
        with pytest.raises(CheckpointError, match="BF16, F16, F32, F64"):
            aura_jax.load(path, param_dtype=jnp.float32)


def header(entries: Any, data: bytes = b"") -> bytes:
    text = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text + data


F32 = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "header too small"),
        (b"no checkpoint at all", "header too large"),
        (struct.pack("<Q", 2**60) + b"{}", "header too large"),
        (header({"a": F32}, b"123"), "not a valid safetensors file"),
        (header({"a": F32, "b": F32 | {"data_offsets": [2, 6]}}, bytes(6)), "invalid offset"),
        (header(b'{"a":%s,"a":%s}' % ((json.dumps(F32).encode(),) * 2), bytes(4)), "twice: a"),
        (b"PK\x03\x04" + bytes(60), r"is a pickle.*python -m convert --allow-pickle.*weights_only"),
        (struct.pack("<Q", 0x280) + b"{}", "not a valid safetensors file"),
        (b"\x80\x02}q\x00." + bytes(9), r"is a pickle.*python -m convert --allow-pickle"),
    ],
)
def test_corrupt_files_are_refused(tmp_path: Path, content: bytes, message: str):
    path = tmp_path / "file.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as error:
        aura_jax.load(path)
    assert str(error.value).startswith(str(path))


def test_a_truncated_file(tensors: Tensors, tmp_path: Path):
    path = written(tmp_path / "cut", tensors)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="not fully covered"):
        aura_jax.load(path)


def test_paths_that_are_not_files(tmp_path: Path):
    with pytest.raises(CheckpointError, match="is not a regular file"):
        aura_jax.load(tmp_path)
    with pytest.raises(CheckpointError, match=r"nowhere\.safetensors: no such file"):
        aura_jax.load(tmp_path / "nowhere.safetensors")
    with pytest.raises(CheckpointError, match=r"runs/small\.safetensors: no such file"):
        aura_jax.load("runs/small.safetensors")


def test_saving_is_all_or_nothing(
    tiny_vae: AuraEquiVAE, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "saved"
    path.write_bytes(b"as it was")
    with pytest.raises(AuraError, match="cannot be written"):
        aura_jax.save(tiny_vae, tmp_path / "no" / "folder")

    def full_disk(_arrays: Tensors, path: Path, _metadata: dict[str, str]) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("aura_jax.checkpoint.loading.save_file", full_disk)
    with pytest.raises(AuraError, match=r"saved: cannot be written .*No space left"):
        aura_jax.save(tiny_vae, path)
    assert [p.name for p in tmp_path.iterdir()] == ["saved"]
    assert path.read_bytes() == b"as it was"

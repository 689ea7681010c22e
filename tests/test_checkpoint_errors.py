"""A checkpoint that does not fit is refused with one error that names everything wrong."""

from collections.abc import Mapping
from pathlib import Path

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import aura_jax
from aura_jax import AuraConfig, CheckpointError
from aura_jax.checkpoint.describe import summarize
from aura_jax.checkpoint.names import LAYOUTS, Layout, in_layout
from aura_jax.checkpoint.tensors import StoredCheckpoint, StoredTensor
from aura_jax.console import say
from aura_jax.dtypes import FLOAT32
from aura_jax.errors import printable
from aura_jax.model.parameters import blueprint, shapes_of
from tests.checkpoint_files import Tensors, written
from tests.conftest import TINY_CONFIG


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
    for text in ('{"ch": "3"}', '{"ch": 33}', '{"num_res_blocks": 1000000}'):
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


def test_long_lists_are_cut_after_twenty_of_each_kind():
    shapes = shapes_of(blueprint(TINY_CONFIG, FLOAT32, FLOAT32))
    others = {f"encoder.strange.{i}.weight": (1,) for i in range(100)}
    lines = summary_of_shapes(others, TINY_CONFIG)
    assert len(lines) == 42
    assert lines[20] == f"  missing: and {len(shapes) - 20} more"
    assert lines[41] == "  unexpected: and 80 more"


def test_names_of_a_file_cannot_write_to_the_terminal(
    tensors: Tensors, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    tensors["decoder.\x1b[31mred\n\u202e"] = np.zeros(3, np.float32)
    tensors[f"decoder.{'long' * 1000}"] = np.zeros(3, np.float32)
    with pytest.raises(CheckpointError) as error:
        aura_jax.load(written(tmp_path / "broken", tensors))
    _, escaped, shortened = str(error.value).splitlines()
    assert escaped == r"  unexpected: decoder.\x1b[31mred\n\u202e (3,)"
    assert shortened.endswith("long… (4008 characters) (3,)")
    say("[red]a\x1b[31m\nb")
    assert capsys.readouterr().out == "[red]a\\x1b[31m\nb\n"
    assert printable("é日本 x") == "é日本 x"


@pytest.mark.parametrize(
    "config", ["{", "null", "[1]", "[" * 100_000, '{"_class_name": "AutoencoderKL", "ch": 128}']
)
def test_metadata_of_another_program_does_not_matter(tensors: Tensors, tmp_path: Path, config: str):
    path = written(tmp_path / "foreign", tensors, config=config)
    assert aura_jax.load(path).config == TINY_CONFIG
    del tensors["encoder.conv_in.bias"], tensors["encoder.down.0.block.0.norm1.bias"]
    with pytest.raises(CheckpointError, match=r"give them, and its metadata is not a config"):
        aura_jax.load(written(tmp_path / "foreign", tensors, config=config))

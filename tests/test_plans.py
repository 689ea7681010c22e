"""Reading compiled programs, and the command that compares plans, without their compilers."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding
from typer.testing import CliRunner

import benchmarks.planning as planning
import benchmarks.plans as command
from aura_jax.errors import AuraError
from benchmarks import targets
from benchmarks.cases import FULL, TINY_CASES, Case
from benchmarks.cycles import V5E, V6E, milliseconds
from benchmarks.hlo import Program
from benchmarks.plans_table import worse
from benchmarks.targets import TARGETS, Target
from tests.commands import invoke

# Shortened from programs that XLA of jax 0.12 compiled for a TPU v5e and an H100.
TPU_PROGRAM = """\
HloModule jit_run, is_scheduled=true

%fused_computation (param_0: bf16[3,3,64,64]) -> bf16[3,3,64,64] {
  %param_0 = bf16[3,3,64,64]{3,2,1,0:T(8,128)(2,1)} parameter(0)
  ROOT %reverse.1 = bf16[3,3,64,64]{3,2,1,0:T(8,128)(2,1)} reverse(%param_0), dimensions={0,1}
}

%wide.region_0 (wide.arg: (s32[], bf16[28,34,64])) -> (s32[], bf16[28,34,64]) {
  %wide.arg = (s32[]{:T(128)}, bf16[28,34,64]{2,1,0:T(8,128)(2,1)S(1)}) parameter(0)
  ROOT %fusion.9 = (s32[], bf16[28,34,64]) fusion(%wide.arg), calls=%x, \
backend_config={"window_config":{"estimated_cycles":"15000"}}
}

%wide.region_3 (wide.arg_tuple: (s32[], bf16[28,34,64])) -> pred[] {
  %constant.44 = s32[]{:T(128)} constant(28)
  %wide.arg_tuple = (s32[]{:T(128)}, bf16[28,34,64]{2,1,0:T(8,128)(2,1)S(1)}) parameter(0)
  %get-tuple-element.34 = s32[]{:T(128)} get-tuple-element(%wide.arg_tuple), index=0
  ROOT %lt.0 = pred[]{:T(512)} compare(%get-tuple-element.34, %constant.44), direction=LT
}

ENTRY %main.1 (weights_0_.1: bf16[3,3,64,64], x.1: bf16[1,32,32,64]) -> bf16[1,32,32,64] {
  %weights_0_.1 = bf16[3,3,64,64]{3,2,1,0:T(8,128)(2,1)} parameter(0), metadata={op_name="weights"}
  %x.1 = bf16[1,32,32,64]{3,2,1,0:T(8,128)(2,1)} parameter(1)
  %fusion.1 = bf16[3,3,64,64]{2,3,1,0:T(8,128)(2,1)S(1)} fusion(%weights_0_.1), kind=kLoop, \
calls=%fused_computation, backend_config={"window_config":{"estimated_cycles":"1500000"}}
  %fusion.2 = bf16[1,32,32,64]{3,2,1,0:T(8,128)(2,1)} fusion(%x.1, %fusion.1), kind=kOutput
  %tuple.19 = (s32[]{:T(128)}, bf16[28,34,64]{2,1,0:T(8,128)(2,1)S(1)}) tuple(%a, %b)
  %while = (s32[]{:T(128)}, /*index=1*/bf16[28,34,64]{2,1,0:T(8,128)(2,1)S(1)}) while(%tuple.19), \
condition=%wide.region_3, body=%wide.region_0, metadata={op_name="jit(attention)/while"}
  ROOT %flash_attention.1 = bf16[1,32,32,64]{3,2,1,0:T(8,128)(2,1)S(1)} custom-call(%fusion.2), \
custom_call_target="tpu_custom_call", backend_config={"custom_call_config":{"body":"TUz",\
"cost_estimate":{"flops":"985000000000","transcendentals":"20","bytes_accessed":"819000"}}}
}
"""
CUDA_PROGRAM = """\
HloModule jit__decode, is_scheduled=true

%wrapped_transpose_computation (param_0.1: bf16[3,3,64,128]) -> bf16[128,3,3,64] {
  %param_0.1 = bf16[3,3,64,128]{3,2,1,0} parameter(0)
  ROOT %transpose.1 = bf16[128,3,3,64]{3,2,1,0} transpose(%param_0.1), dimensions={3,0,1,2}
}

ENTRY %main.7 (vae_0.1: bf16[128], vae_1.1: bf16[3,3,64,128], x.1: f32[1,8,8,64]) -> bf16[8,8] {
  %vae_0.1 = bf16[128]{0} parameter(0), metadata={op_name="vae.decoder.conv_in.bias"}
  %vae_1.1 = bf16[3,3,64,128]{3,2,1,0} parameter(1)
  %x.1 = f32[1,8,8,64]{3,2,1,0} parameter(2)
  %wrapped_convert = bf16[1,8,8,64]{3,2,1,0} fusion(%x.1), kind=kLoop, calls=%convert
  %wrapped_transpose = bf16[128,3,3,64]{3,2,1,0} fusion(%vae_1.1), kind=kInput, \
calls=%wrapped_transpose_computation
  %cudnn-conv.1 = (bf16[1,8,8,128]{3,2,1,0}, u8[0]{0}) custom-call(%wrapped_convert, \
%wrapped_transpose, %vae_0.1), custom_call_target="__cudnn$convBiasActivationForward"
  %get-tuple-element.1 = bf16[1,8,8,128]{3,2,1,0} get-tuple-element(%cudnn-conv.1), index=0
  ROOT %attention.1 = (bf16[1,8,8,128]{3,2,1,0}, u8[0]{0}) custom-call(%get-tuple-element.1), \
custom_call_target="__cudnn$fmhaSoftmax"
}
"""


def test_time_on_a_tpu_counts_the_trips_of_loops_and_kernels_by_their_own_estimate():
    program = Program.parse(TPU_PROGRAM)
    kernel = 985e9 / (197e12 / 2)  # heads of 64 channels fill half of a v5e's matrix units
    assert milliseconds(program, V5E) == pytest.approx(1 + 28 * 0.01 + 1e3 * kernel)
    known = TPU_PROGRAM.replace("condition=", '{"known_trip_count":{"n":"2"}}, condition=')
    assert milliseconds(Program.parse(known), V5E) == pytest.approx(1 + 2 * 0.01 + 1e3 * kernel)
    assert milliseconds(program, V6E) < milliseconds(program, V5E)


def test_operations_of_a_tpu_program_are_read_with_their_layouts():
    program = Program.parse(TPU_PROGRAM)
    assert program.attention == "Pallas"
    assert [each.opcode for each in program.entry[2:]] == [
        *("fusion", "fusion", "tuple", "while", "custom-call")
    ]
    assert program.named["while"].arrays == [(4, []), (2, [28, 34, 64])]
    assert program.kernel_layout_bytes == 2 * (2 * 3 * 3 * 64 * 64)  # the reversed kernel


def test_bytes_of_a_cuda_program_are_those_of_its_operands_and_results():
    program = Program.parse(CUDA_PROGRAM)
    kernel, image, out = 2 * 9 * 64 * 128, 8 * 8 * 64, 2 * 8 * 8 * 128
    convolution = 2 * image + kernel + 2 * 128 + out
    assert program.kernel_layout_bytes == 2 * kernel  # and not the image, which is converted
    assert program.bytes_moved == (4 + 2) * image + 2 * kernel + convolution + 2 * out
    assert program.attention == "cuDNN"
    assert program.count("__cudnn$fmhaSoftmax") == 1


def test_a_program_of_this_machine_is_read_too():
    x = jnp.ones((8, 256))
    compiled = jax.jit(lambda w, x: jnp.exp(w) * x).lower(x, x).compile()
    program = Program.parse(compiled.as_text() or "")
    assert program.bytes_moved == 3 * x.nbytes
    assert program.attention == "plain"


def test_rows_are_split_over_all_devices_of_a_split_target():
    sharding = TARGETS["v5e-8"].sharding(jax.devices()[:1])
    assert isinstance(sharding, NamedSharding)
    assert tuple(sharding.spec) == (None, "rows")
    assert TARGETS["v5e"].sharding(jax.devices()) is None


def test_the_largest_image_is_decoded_on_large_devices_alone():
    largest = {task.target for task in planning.tasks([*TARGETS], ["encode", "decode"], [4096])}
    assert largest == {"h100", "v5e-8"}
    others = [*planning.tasks(["v5e"], ["decode"], [256])]
    assert [(task.case.batch, task.variant) for task in others] == [
        *((1, "plain"), (1, "codec"), (8, "plain"), (8, "codec"))
    ]


def test_a_missing_compiler_is_one_sentence(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(TARGETS, "none", Target("aura_no_compiler", {}))
    with pytest.raises(AuraError, match=r"^aura_no_compiler is not installed: .*aura-jax\[plans\]"):
        targets.devices_of("none")


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the targets by this machine's CPU, and the model by a tiny one."""
    monkeypatch.setattr(planning, "CASES", TINY_CASES[1:])
    monkeypatch.setattr(planning, "devices_of", lambda _: jax.devices("cpu")[:1])
    monkeypatch.setattr(command, "SIZES", [TINY_CASES[1].size])
    for name in [*TARGETS]:
        monkeypatch.delitem(TARGETS, name)
    monkeypatch.setitem(TARGETS, "cpu", Target("none", {}))


@pytest.mark.usefixtures("here")
def test_the_command_stores_each_plan_and_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    out, options = tmp_path / "plans.json", ("--part", "decode", "--markdown")
    plan, calls = planning.plan, []

    def interrupted(task: planning.Task) -> dict[str, Any]:
        calls.append(task.variant)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return plan(task)

    monkeypatch.setattr(command, "plan", interrupted)
    monkeypatch.setattr(command, "worse", lambda _: [])  # a CPU's plan is not judged by bytes
    CliRunner().invoke(command.app, [*options, "--out", str(out)])
    (kept,) = json.loads(out.read_text())["plans"]
    assert kept["variant"] == "plain"
    printed = invoke(command.app, *options, "--out", out)
    assert calls == ["plain", "codec", "codec"]
    content = json.loads(out.read_text())
    assert content["plans"][0] == kept
    assert {*content["versions"]} == {*targets.PACKAGES}
    assert "not" in content["about"]
    codec = content["plans"][1]
    assert (codec["size"], codec["batch"], codec["variant"]) == (32, 2, "codec")
    assert codec["bytes_moved"] > codec["output_bytes"] > 0
    ratio = codec["bytes_moved"] / kept["bytes_moved"]
    assert f"{ratio:.2f}" in printed
    assert "Estimates by XLA's compilers" in printed


@pytest.mark.usefixtures("here")
def test_a_file_of_other_code_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    out = tmp_path / "plans.json"
    monkeypatch.setattr(command, "plan", lambda _: {"refused": "RESOURCE_EXHAUSTED"})
    assert "-" in invoke(command.app, "--out", out)
    monkeypatch.setattr(command, "code", lambda: "other")
    with pytest.raises(AuraError, match="other packages or other code made it"):
        invoke(command.app, "--out", out)
    invoke(command.app, "--out", out, "--overwrite")
    assert json.loads(out.read_text())["code"] == "other"


def test_an_unknown_target_is_one_error():
    with pytest.raises(AuraError, match=r"^target v9: expected one of h100, v5e, "):
        invoke(command.app, "--target", "v9")


def planned(variant: str, **values: float | str | None) -> dict[str, Any]:
    task = planning.Task("v5e", "decode", Case(FULL, 512, 1, "bfloat16"), "plain")
    return task.key | {"variant": variant, "temporary_bytes": 1000} | values


@pytest.mark.parametrize(
    ("codec", "expected"),
    [
        ({"milliseconds": 1.0, "bytes_moved": 2}, []),
        (
            {"milliseconds": 2.2, "bytes_moved": 1},
            ["v5e decode 512² batch 1: milliseconds x 1.100"],
        ),
        ({"milliseconds": None, "bytes_moved": 1}, []),
        (
            {"milliseconds": None, "bytes_moved": 3},
            ["v5e decode 512² batch 1: bytes_moved x 1.500"],
        ),
        (
            {"milliseconds": 2.0, "bytes_moved": 1, "temporary_bytes": 2000},
            ["v5e decode 512² batch 1: temporary_bytes x 2.000"],
        ),
    ],
)
def test_worse_plans_are_listed(codec: dict[str, float | None], expected: Sequence[str]):
    plain = planned("plain", milliseconds=codec["milliseconds"] and 2.0, bytes_moved=2)
    assert worse([plain, planned("codec", **codec)]) == expected


def test_a_refused_plan_is_worse_than_one_that_fits():
    plain, codec = planned("plain", attention="plain"), planned("codec", refused="too large")
    assert worse([plain, codec]) == ["v5e decode 512² batch 1: too large"]
    assert worse([plain | {"attention": "plain"}, plain | {"variant": "codec"}]) == []


@pytest.mark.usefixtures("here")
def test_only_a_lack_of_memory_is_a_plan(monkeypatch: pytest.MonkeyPatch):
    def fail(_: planning.Task) -> NoReturn:
        raise jax.errors.JaxRuntimeError(message)

    monkeypatch.setattr(planning, "_compile", fail)
    (task, *_) = planning.tasks(["cpu"], ["decode"])
    message = "RESOURCE_EXHAUSTED: 20 GB\nof 16 GB"
    assert planning.plan(task) == {"refused": "RESOURCE_EXHAUSTED: 20 GB"}
    message = "INTERNAL: Mosaic failed to compile"
    with pytest.raises(jax.errors.JaxRuntimeError, match="Mosaic"):
        planning.plan(task)


def test_code_is_the_same_with_other_comments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = tmp_path / "aura_jax" / "config.py"
    source.parent.mkdir()
    monkeypatch.setattr(planning, "ROOT", tmp_path)
    digests = []
    for text in '"""One."""\nx = 1\n', '"""Two."""\nx = 1  # one\n', '"""One."""\nx = 2\n':
        source.write_text(text)
        digests.append(planning.code())
    assert digests[0] == digests[1] != digests[2]

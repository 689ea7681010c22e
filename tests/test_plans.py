"""The command that compares plans, without the compilers that make them."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn
from unittest.mock import patch

import jax
import pytest
from jax.sharding import NamedSharding
from typer.testing import CliRunner

import benchmarks.planning as planning
import benchmarks.plans as command
from aura_jax.errors import AuraError
from benchmarks import targets
from benchmarks.cases import FULL, TINY_CASES, Case
from benchmarks.plans_table import worse
from benchmarks.targets import TARGETS, Target
from tests.commands import invoke


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


def test_buckets_are_compared_on_one_device():
    sizes, pair = [256, 4096], planning.CODEC_AND_BUCKETS
    tasks = planning.tasks(["v5e", "v5e-8"], ["decode"], sizes, pair)
    assert [(task.target, task.case.batch, task.variant) for task in tasks] == [
        ("v5e", batch, variant) for batch in (1, 8) for variant in ("codec", "buckets")
    ]


def test_a_missing_compiler_is_one_sentence(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(TARGETS, "none", Target("aura_no_compiler", {}))
    with pytest.raises(AuraError, match=r"^aura_no_compiler is not installed: .*aura-jax\[plans\]"):
        targets.devices_of("none")


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Replace the targets by this machine's CPU, and the model by a tiny one."""
    monkeypatch.setattr(planning, "CASES", TINY_CASES[1:])
    monkeypatch.setattr(planning, "devices_of", lambda _: jax.devices("cpu")[:1])
    monkeypatch.setattr(command, "SIZES", [TINY_CASES[1].size])
    with patch.dict(TARGETS, {"cpu": Target("none", {})}, clear=True):
        yield


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
def test_the_command_compares_buckets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def compile_for(*_: object, buckets: bool, **__: object) -> float:
        return 3 if buckets else 2

    monkeypatch.setattr(planning, "compile_for", compile_for)
    monkeypatch.setattr(planning, "estimates", lambda _, moved: {"bytes_moved": moved})
    printed = invoke(command.app, "--buckets", "--part", "encode", "--out", tmp_path / "plans.json")
    assert "1.50" in printed


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


@pytest.mark.parametrize(
    "words",
    [
        ("--buckets", "--target", "v5e-8"),
        ("--buckets", "--target", "h100", "--size", 4096),
        ("--target", "v5e", "--size", 4096),
    ],
)
def test_a_choice_without_programs_is_one_error(words: Sequence[object], tmp_path: Path):
    with pytest.raises(AuraError, match="no plans of these targets, parts and sizes"):
        invoke(command.app, *words, "--out", tmp_path / "plans.json")
    assert not [*tmp_path.iterdir()]


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

"""The benchmark's own arithmetic and judgement, and one whole run of it."""

import importlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import benchmarks.__main__ as command
from aura_jax import AuraConfig
from aura_jax.errors import AuraError
from benchmarks.cases import CPU_CASES, GPU_CASES, TINY_CASES, Case, find_cases
from benchmarks.flops import Part, conv, flops
from benchmarks.results import CaseResult, Measured
from benchmarks.variants import AUTOTUNED, COMPILED, DEFAULT, EAGER, FAST, Variant, variants_of
from benchmarks.workers.process import Worker
from tests.commands import invoke
from tests.conftest import ROOT

FLOAT32, BFLOAT16 = TINY_CASES
FILES = sorted((ROOT / "benchmarks").glob("*.py"))
COMMANDS = [path.stem for path in FILES if "run(app)" in path.read_text()]


@pytest.mark.parametrize(
    ("size", "part", "published"),
    [
        (256, "encode", 1.09e12),
        (256, "decode", 2.48e12),
        (512, "encode", 4.39e12),
        (512, "decode", 9.99e12),
        (1024, "encode", 18.4e12),
        (1024, "decode", 40.8e12),
    ],
)
def test_operations_are_those_of_the_published_model(size: int, part: Part, published: float):
    digits = float(f"{flops(AuraConfig(), part, size):.3g}")
    assert digits == published


def test_operations_of_a_batch_are_those_of_its_images():
    one, many = (Case(AuraConfig(), 256, batch, "bfloat16") for batch in (1, 16))
    assert many.flops("decode") == 16 * one.flops("decode")


def test_upsampling_is_28_percent_of_the_decoder():
    upsampling = conv(3, 1024, 1024, 64) + conv(3, 1024, 1024, 128) + conv(3, 512, 512, 256)
    assert upsampling / flops(AuraConfig(), "decode", 256) == pytest.approx(0.28, abs=0.005)


def test_cases_are_chosen_by_name_or_by_device():
    assert find_cases([], "cpu") == [*CPU_CASES]
    assert find_cases([], "gpu") == [*GPU_CASES]
    assert find_cases(["ch256-512px-b8-bfloat16"], "cpu")[0].shape("decode") == (8, 64, 64, 16)


def test_an_unknown_case_is_one_error_before_anything_starts(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(command, "describe", pytest.fail)
    with pytest.raises(AuraError, match=r"^case ch7: expected one of ch128-256px-b1-float32, "):
        invoke(command.app, "--case", "ch7", "--case", FLOAT32.name)


def test_variants_follow_type_and_options():
    everything = variants_of(FLOAT32, compiled=True, autotuned=True)
    assert everything == [EAGER, COMPILED, AUTOTUNED, DEFAULT, FAST]
    assert variants_of(BFLOAT16, compiled=False, autotuned=False) == [EAGER, DEFAULT]


def test_a_workers_error_and_its_end_are_told_apart():
    with Worker("jax_worker") as worker:
        with pytest.raises(AuraError, match=r"jax_worker: ceiling failed: .*'float7'"):
            worker.ask("ceiling", dtype="float7")
        assert worker.ask("describe")["versions"].keys() >= {"python", "jax", "jaxlib", "flax"}
        worker.close()


def measured(variant: Variant, seconds: float, error: float) -> Measured:
    both: dict[Part, list[float]] = {"encode": [3 * seconds, seconds], "decode": [seconds]}
    errors: dict[Part, float] = {"encode": error, "decode": error}
    peaks: dict[Part, int] = {"encode": 10, "decode": 10}
    return Measured(variant, 1.0, both, errors, peaks, errors if variant == DEFAULT else None)


def result_of(case: Case, *each: Measured) -> CaseResult:
    return CaseResult(case, "float64", {"jax_worker": 1.0, "torch_worker": 2.0}, each, {})


def test_rows_hold_us_against_the_best_of_torch():
    eager, compiled = measured(EAGER, 2.0, 1e-6), measured(COMPILED, 1.5, 1e-6)
    result = result_of(FLOAT32, eager, compiled, measured(DEFAULT, 0.5, 2e-6))
    rows = {(row.part, row.variant): row for row in result.rows()}
    ours = rows["encode", DEFAULT.label]
    assert (ours.ratio, ours.minimum_seconds, ours.median_seconds) == (3.0, 0.5, 1.0)
    assert ours.images_per_second == FLOAT32.batch / 0.5
    assert ours.ceiling_share == FLOAT32.flops("encode") / 0.5 / 2.0e12
    assert ours.passes
    assert rows["decode", EAGER.label].ratio is None


@pytest.mark.parametrize(
    ("case", "variant", "error", "passes"),
    [
        (FLOAT32, DEFAULT, 2.9e-6, True),
        (FLOAT32, DEFAULT, 3.1e-6, False),
        (FLOAT32, FAST, 1.9e-5, True),
        (FLOAT32, FAST, 2.1e-5, False),
        (BFLOAT16, DEFAULT, 1.1e-2, True),
        (BFLOAT16, DEFAULT, 1.3e-2, False),
        (BFLOAT16, DEFAULT, math.nan, False),
    ],
)
def test_accuracy_is_judged_by_type_and_variant(
    case: Case, variant: Variant, error: float, passes: bool
):
    result = result_of(case, measured(EAGER, 1.0, 1e-2), measured(variant, 1.0, error))
    assert result.passes is passes


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The JSON of the smallest run of the command."""
    out = tmp_path_factory.mktemp("benchmarks") / "results.json"
    options = ("--case", BFLOAT16.name, "--repeats", 1, "--no-compile", "--markdown")
    printed = invoke(command.app, *options, "--out", out)
    assert f"| {DEFAULT.label}" in printed
    return json.loads(out.read_text())


def test_a_whole_run_writes_finite_numbers(written: Any):
    found = [*numbers(written)]
    assert len(found) > 50
    assert all(map(math.isfinite, found))
    assert written["versions"].keys() >= {"python", "jax", "jaxlib", "flax"}
    assert written["torch"].keys() >= {"torch", "cudnn", "threads"}


def test_its_ratio_is_the_quotient_of_its_times(written: Any):
    (case,) = written["cases"]
    assert case["reference"] == "float64"
    rows = {(row["part"], row["variant"]): row for row in case["rows"]}
    assert len(rows) == 4
    for part in ("encode", "decode"):
        torch, ours = (rows[part, variant.label] for variant in (EAGER, DEFAULT))
        assert ours["ratio"] == torch["minimum_seconds"] / ours["minimum_seconds"]
        assert ours["minimum_seconds"] == min(case["seconds"][DEFAULT.label][part])
        assert 0 < ours["error"] <= ours["limit"] == 1.2 * torch["error"]
        assert ours["passes"]
        assert ours["peak_bytes"] > 1e6
        assert ours["dispatch_seconds"] < 0.1


def test_a_fast_wrong_answer_is_written_and_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    wrong = result_of(FLOAT32, measured(EAGER, 1.0, 1e-6), measured(DEFAULT, 0.1, 1.0))
    monkeypatch.setattr(command, "describe", lambda: {"platform": "cpu"})
    monkeypatch.setattr(command, "measure", lambda *_: wrong)
    out = tmp_path / "results.json"
    result = CliRunner().invoke(command.app, ["--case", FLOAT32.name, "--out", str(out)])
    assert result.exit_code == 1, result.output
    assert "FAIL, limit 3.00e-06" in result.stdout
    (case,) = json.loads(out.read_text())["cases"]
    assert [row["passes"] for row in case["rows"]] == [True, False, True, False]


def numbers(content: Any) -> Iterator[float]:
    """All numbers in JSON."""
    if isinstance(content, dict | list):
        for part in content.values() if isinstance(content, dict) else content:
            yield from numbers(part)
    elif isinstance(content, int | float):
        yield content


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_short_help(name: str):
    app = importlib.import_module(f"benchmarks.{name}").app
    assert "Example: python -m benchmarks" in invoke(app, "-h")

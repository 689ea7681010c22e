"""The benchmark of accelerators, rehearsed with workers that answer without computing."""

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from typer.testing import CliRunner

import aura_jax
import benchmarks.accelerator as command
from aura_jax.errors import AuraError
from benchmarks.accelerator_steps import REHEARSAL, TINY, WHOLE, Bench
from benchmarks.accelerator_targets import Judged
from benchmarks.budget import Record, Step
from benchmarks.cases import Case
from benchmarks.full_size_checkpoint import write_random_checkpoint
from benchmarks.golden import OUTPUTS, read_golden
from benchmarks.prepared import WEIGHTS
from benchmarks.workers import golden_errors, pool, training
from benchmarks.workers.calls import Call, JaxMode
from benchmarks.workers.jax_worker import JaxWorker
from benchmarks.workers.pool import Pool
from tests.commands import invoke

ERROR = {"eager": 0.01, "plain": 0.011, "highest": 0.005}
SECONDS = {"eager": 0.2, "plain": 0.2, "highest": 0.1, "bucket": 0.3}
BYTES = {"eager": 100, "plain": 300, "highest": 150, "bucket": 160}
NAMES = [step.name for step in Bench(REHEARSAL, Pool(1), Path(), "cpu").steps()]


class FakeWorker:
    """A worker whose answers are known."""

    fails: tuple[str, ...] = ()

    def __init__(self, module: str, **variables: str):
        self.variables, self.is_alive, self.mode = variables, True, ""

    def ask(self, method: str, **asked: Any) -> Any:
        self.mode = asked.get("mode", self.mode)
        if method in self.fails or f"{method} {self.mode}" in self.fails:
            raise AuraError(f"{method} failed: no reason")
        return getattr(self, f"_{method}", lambda **_: None)(**asked)

    def close(self) -> None:
        self.is_alive = False

    kill = close

    def _describe(self) -> Any:
        return {"platform": "cpu", "device": "a rehearsal"}

    def _prepare(self, **_: Any) -> float:
        return 1.0

    def _run(self, part: str) -> list[float]:
        return [SECONDS[self.mode]]

    def _peak(self, part: str) -> int:
        return BYTES[self.mode]

    def _errors(self, dtype: str, outputs: Any) -> Any:
        return {part: {mode: ERROR[mode] for mode in files} for part, files in outputs.items()}

    def _ceiling(self, dtype: str, side: int) -> float:
        return 1.0

    def _dispatch(self, **_: Any) -> Any:
        return {"encode": 2e-4, "decode": 4e-4}

    def _parity(self, mode: str, dtype: str, outputs: list[str]) -> Any:
        row = {"mode": mode, "dtype": dtype, "error": 1e-6, "limit": 3e-6, "passes": True}
        return [row | {"output": output} for output in outputs]

    def _train(self, **_: Any) -> Any:
        return {"minimum_seconds": 0.5}


@pytest.fixture(autouse=True)
def _fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "Worker", FakeWorker)
    monkeypatch.setattr(command, "write_elsewhere", lambda *_: None)


def test_a_rehearsal_runs_every_step_and_judges_it(tmp_path: Path):
    out = tmp_path / "out.json"
    printed = invoke(command.app, "--rehearse", "--out", out)
    written = json.loads(out.read_text())
    assert [*written["results"]] == NAMES
    assert (written["errors"], written["dropped"], written["rehearsal"]) == ({}, [], True)
    assert written.keys() >= {"commit", "driver", "torch", "device", "budget_seconds"}
    judged = {each["quantity"]: each for each in written["targets"]}
    name = REHEARSAL.speed[0].name
    assert judged[f"encode {name}, speed against PyTorch"]["measured"] == 2
    assert judged[f"decode {name}, memory against PyTorch eager"]["measured"] == 1.5
    assert not judged[f"decode {name}, memory against PyTorch eager"]["met"]
    assert [judged[f"{part}, dispatch"]["met"] for part in ("encode", "decode")] == [True, False]
    assert len(judged) == 4 * len(REHEARSAL.speed) + 2 + 2
    assert "≤ 0.3 ms" in printed
    assert "train step: 500.0 ms" in printed


def test_a_failure_is_recorded_and_the_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(FakeWorker, "fails", ("train", "prepare eager"))
    out = tmp_path / "out.json"
    result = CliRunner().invoke(command.app, ["--rehearse", "--out", str(out)])
    assert result.exit_code == 1
    written = json.loads(out.read_text())
    assert written["errors"] == {"train": "AuraError: train failed: no reason"}
    assert [*written["results"]] == [name for name in NAMES if name != "train"]
    case = written["results"][REHEARSAL.speed[0].name]
    assert case["failures"] == {"torch eager": "prepare failed: no reason"}
    assert {row["ratio"] for row in case["rows"]} == {None}


@pytest.mark.parametrize("error", [0.02, math.nan])
def test_a_wrong_result_is_written_and_fails(
    error: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(ERROR, "highest", error)
    out, name = tmp_path / "out.json", REHEARSAL.speed[0].name
    result = CliRunner().invoke(command.app, ["--rehearse", "--step", name, "--out", str(out)])
    assert result.exit_code == 1
    assert "FAIL, limit 1.20e-02" in result.stdout
    written = json.loads(out.read_text())["results"][name]["rows"]
    assert [row["passes"] for row in written] == [True, True, False] * 2
    assert float(written[2]["error"]) == pytest.approx(error, nan_ok=True)


def test_steps_are_chosen_by_name_and_no_gpu_is_one_error():
    assert "train step" in invoke(command.app, "--rehearse", "--step", "train")
    with pytest.raises(AuraError, match=r"^step trian: expected one of parity, ceiling"):
        invoke(command.app, "--rehearse", "--step", "trian")
    with pytest.raises(AuraError, match="no GPU here; --rehearse"):
        invoke(command.app)


def test_steps_that_do_not_fit_are_dropped_by_name(tmp_path: Path):
    out, left = tmp_path / "out.json", iter([100.0, 30.0, 20.0, 20.0, 0.0])
    written = []

    def measure() -> int:
        written.append(out.exists() and json.loads(out.read_text())["results"])
        return 7

    def killed() -> None:
        raise AuraError("jax_worker: ended in run, status -9")

    steps = [Step("a", 50, measure), Step("b", 50, measure), Step("c", 10, measure)]
    record = Record(out, {})
    record.run([*steps, Step("d", 10, killed)], lambda: next(left))
    assert written == [False, {"a": 7}]  # each result is kept before the next step
    assert (record.results, record.dropped, record.errors) == ({"a": 7, "c": 7}, ["b", "d"], {})


def test_at_its_deadline_a_pool_kills_its_workers_and_starts_no_more():
    with Pool(0.05, COMMON="1") as workers:
        worker = workers.get("a", "jax_worker", OWN="2")
        assert isinstance(worker, FakeWorker)
        assert worker.variables == {"COMMON": "1", "OWN": "2"}
        assert workers.get("a", "jax_worker") is worker
        wait_for(lambda: not worker.is_alive)
        with pytest.raises(AuraError, match="b: not started"):
            workers.get("b", "jax_worker")


def test_an_ended_worker_is_started_again():
    with Pool(60) as workers:
        first = workers.get("a", "jax_worker")
        first.close()
        assert workers.get("a", "jax_worker") is not first


def test_the_whole_scale_has_the_sizes_that_targets_are_for():
    sizes = {(case.size, case.batch) for case in WHOLE.speed}
    assert sizes == {(256, 1), (512, 1), (1024, 1), (256, 16)}
    assert {case.size for case in WHOLE.large} == {2048, 4096}
    assert {case.dtype for case in (*WHOLE.speed, *WHOLE.large)} == {"bfloat16"}
    assert not Judged("", "≥", 1.0, float("nan")).met


@pytest.mark.parametrize("mode", ["plain", "bucket"])
def test_the_worker_compiles_what_it_runs(
    mode: JaxMode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The one test here that computes; a plain codec is tested with the other benchmark."""
    compiled, compile_ = [], jax.stages.Lowered.compile
    monkeypatch.setattr(
        jax.stages.Lowered,
        "compile",
        lambda self, *options: compiled.append(self) or compile_(self, *options),
    )
    case = Case(TINY, 8, 1, "float32")
    write_random_checkpoint(tmp_path / WEIGHTS, TINY)
    np.save(tmp_path / "decode.npy", np.ones(case.shape("decode"), np.float32))
    worker = JaxWorker()
    assert worker.prepare(mode, str(tmp_path), case.dtype, ["decode"]) > 0
    assert min(worker.run("decode")) > 0
    assert len(compiled) == 1  # so the memory that is measured is that of the calls
    assert worker.peak("decode") > 1e6
    worker.save("decode", str(tmp_path / "output"))
    output = np.load(tmp_path / "output.npy")
    assert output.shape == (1, 8, 8, 3)
    assert 0.01 < output.std() < 100


def test_golden_errors_are_judged_by_type(monkeypatch: pytest.MonkeyPatch):
    golden = read_golden()
    by_input = {golden[source].tobytes(): golden[name] for name, (_, source) in OUTPUTS.items()}

    def compiled(vae: Any, mode: str, inputs: Any) -> Any:
        ((part, _),) = inputs.items()
        return {part: Call(lambda x: 1.001 * by_input[np.asarray(x).tobytes()], None)}  # pyright: ignore

    monkeypatch.setattr(aura_jax, "load", lambda *_, **__: None)
    monkeypatch.setattr(golden_errors, "compile_calls", compiled)
    (row,) = golden_errors.golden_errors("highest", "float32", ["latents"])
    assert row["error"] == pytest.approx(1e-3, rel=1e-2)
    assert not row["passes"]
    (row,) = golden_errors.golden_errors("plain", "bfloat16", ["latents"])
    assert row["limit"] == 1.2 * row["torch_error"]
    assert row["passes"]


def test_train_steps_are_timed_apart_from_the_first(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(aura_jax, "load", lambda path, **dtypes: (path, *dtypes.values()))
    monkeypatch.setattr(training, "Trainer", FakeTrainer)
    found = training.train_seconds("small", "bfloat16", 16, 2)
    assert len(found["seconds"]) == training.STEPS
    assert found["minimum_seconds"] == min(found["seconds"])
    assert found["loss"] == training.STEPS + 1


class FakeTrainer:
    """A trainer whose loss is the number of its steps."""

    def __init__(self, recipe: Any, vae: Any):
        assert vae == ("small", "bfloat16", jnp.float32)
        assert (recipe.dtype, recipe.crops) == ("bfloat16", ((16, 2),))

    def start(self) -> int:
        return 0

    def step(self, state: int, images: np.ndarray, key: Any) -> tuple[int, dict[str, int]]:
        assert (images.shape, images.dtype) == ((2, 16, 16, 3), np.uint8)
        return state + 1, {"loss": state + 1}


def wait_for(done: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not done() and time.monotonic() < end:
        time.sleep(0.01)
    assert done()

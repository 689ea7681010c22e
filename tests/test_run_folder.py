"""The folder of a run: what resumes it, what may not, and what killed runs leave in it."""

import dataclasses
import os
import shutil
from pathlib import Path

import pytest

from aura_jax import AuraEquiVAE
from aura_jax.errors import AuraError, TrainingError
from aura_jax.files import locked
from aura_jax.training import Recipe, RunSpec, Workdir
from aura_jax.training.skipped import Skipped
from tests.conftest import TINY_CONFIG
from tests.fake_runs import (
    SPEC,
    STEPS,
    Start,
    count,
    new_workdir,
    no_plots,
    photos,
    start,
    starter,
    steps_of,
    workdir,
)
from tests.recipes import with_

__all__ = ["no_plots", "photos", "start", "workdir"]  # fixtures


def of_steps(steps: int) -> RunSpec:
    return dataclasses.replace(SPEC, recipe=with_(steps=steps))


@pytest.fixture(scope="module")
def trained(photos: Path, tiny_vae: AuraEquiVAE, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run, for copies."""
    workdir = new_workdir(tmp_path_factory.mktemp("trained") / "run")
    run = starter(photos, workdir, tiny_vae)()
    run.train(run.resume())
    return workdir.path


@pytest.fixture
def finished(trained: Path, workdir: Workdir) -> Workdir:
    shutil.copytree(trained, workdir.path, dirs_exist_ok=True)
    return workdir


def test_a_damaged_checkpoint_falls_back_to_the_one_before(start: Start, finished: Workdir) -> None:
    last = finished.checkpoints / str(STEPS)
    shutil.rmtree(last / "state")
    said: list[str] = []
    run = start(say=said.append)
    state = run.resume()
    assert (int(state.step), steps_of(finished)) == (4, [1, 2, 3, 4])
    assert [line[: line.index(" (")] for line in said] == [f"{last}: the checkpoint is damaged"]
    assert "going back to step 4, and renaming the damaged one to damaged-8" in said[0]
    assert run.train(state)
    assert count(start()) == STEPS
    assert steps_of(finished) == list(range(1, STEPS + 1))


def test_a_run_whose_checkpoints_are_all_damaged_is_refused(
    start: Start, finished: Workdir
) -> None:
    for step in ("4", "8"):
        shutil.rmtree(finished.checkpoints / step / "state")
    with pytest.raises(TrainingError, match=r"no checkpoint can be read.*\n.*/8: .*\n.*/4: "):
        start().resume()
    assert {path.name for path in finished.checkpoints.iterdir()} == {"4", "8"}


def test_a_finished_run_can_be_extended(start: Start, finished: Workdir) -> None:
    finished.open(of_steps(12))
    assert finished.read_spec() == of_steps(12)
    finished.close()
    for steps in (10, 16):  # the longer run is not finished
        with pytest.raises(TrainingError, match=rf"recipe\.steps: 12 before, {steps} now"):
            finished.open(of_steps(steps))
    run = start(steps=12)
    assert run.train(run.resume())
    assert count(start(steps=12)) == 12
    assert steps_of(finished) == list(range(1, 13))


def test_an_unfinished_run_keeps_its_length(start: Start, workdir: Workdir) -> None:
    run = start()
    run.train(run.resume(), should_stop=lambda: True)
    with pytest.raises(TrainingError, match=r"recipe\.steps: 8 before, 12 now"):
        workdir.open(of_steps(12))


def test_a_second_run_is_refused_while_the_first_lasts(start: Start, workdir: Workdir) -> None:
    first, second = Workdir(workdir.path), Workdir(workdir.path)
    workdir.close()
    first.open(SPEC)
    with pytest.raises(TrainingError, match="another process is training in this folder; wait"):
        second.open(SPEC)
    second.open(SPEC, process=1)  # trains together with the first
    first.close()
    first.open(SPEC)
    run = start()
    run.workdir = first
    run.train(run.resume())
    Workdir(workdir.path).open(SPEC)


def test_checkpoints_that_are_a_file_are_refused_at_once(workdir: Workdir) -> None:
    workdir.checkpoints.write_text("mine")
    with pytest.raises(AuraError, match="checkpoints: is a file; give a folder"):
        workdir.open(SPEC)


def test_a_refused_folder_is_not_locked(finished: Workdir) -> None:
    with pytest.raises(TrainingError, match="other settings"):
        finished.open(dataclasses.replace(SPEC, data="elsewhere"))
    with locked(finished.path / ".lock.0"):
        pass


def test_leftovers_of_killed_runs_are_removed(finished: Workdir) -> None:
    mine = finished.path / ".run.json.swp"  # as an editor leaves it
    for path in (finished.spec, finished.model, finished.metrics, finished.plot("samples")):
        (path.parent / f".{path.name}.0123abcd").write_text("half")
    mine.write_text("")
    finished.open(SPEC)
    hidden = [path.name for path in finished.path.iterdir() if path.name[0] == "."]
    assert sorted(hidden) == [".lock.0", mine.name]


@pytest.mark.parametrize(
    "line", [b"{", b"\xff", b"[" * 10_000, b'["loss", 1]', b"\0\0\0", b'{"loss": 1}', b"1" * 9999]
)
def test_damaged_lines_are_named(start: Start, finished: Workdir, line: bytes) -> None:
    lines = finished.metrics.read_bytes().splitlines(keepends=True)
    finished.metrics.write_bytes(b"".join([*lines[:2], line + b"\n", *lines[2:]]))
    with pytest.raises(TrainingError, match=r"metrics.jsonl, line 3: damaged .*; remove the line"):
        start().resume()


def test_a_run_without_checkpoints_may_be_replaced(workdir: Workdir) -> None:
    other = RunSpec(data="photos", recipe=with_(seed=1, steps=STEPS), config=TINY_CONFIG)
    (workdir.path / ".run.json.half").write_text("{")  # as a killed start leaves it
    workdir.open(other)
    assert workdir.read_spec() == other
    (workdir.checkpoints / "4").mkdir(parents=True)
    with pytest.raises(
        TrainingError, match=r"other settings; give another folder.*\n  recipe.seed:"
    ):
        workdir.open(SPEC)
    workdir.open(other)


def test_names_that_are_not_utf_8(workdir: Workdir) -> None:
    spec = dataclasses.replace(SPEC, data=os.fsdecode(b"caf\xe9"))
    workdir.open(spec)
    assert workdir.read_spec() == spec
    skipped = Skipped(workdir.skipped, total=10)
    skipped.add(os.fsdecode(b"caf\xe9/1.png"), "truncated")
    assert skipped.read() == {os.fsdecode(b"caf\xe9/1.png"): "truncated"}


@pytest.mark.parametrize("text", ["{", "{}", '{"data": 1}', "[]"])
def test_a_folder_of_another_version_is_refused(workdir: Workdir, text: str) -> None:
    (workdir.checkpoints / "4").mkdir(parents=True)
    workdir.spec.write_text(text)
    with pytest.raises(TrainingError, match=r"run\.json: not the spec of a run of this version"):
        workdir.open(SPEC)


def test_a_folder_of_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(AuraError, match="holds files, but no training run"):
        Workdir(tmp_path).open(SPEC)


def test_a_spec_says_what_to_start_from() -> None:
    for config, init in ((None, None), (TINY_CONFIG, "small")):
        with pytest.raises(TrainingError, match="give either config"):
            RunSpec(data="photos", recipe=Recipe(steps=1), config=config, init=init)

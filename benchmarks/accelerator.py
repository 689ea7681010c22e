"""The command python -m benchmarks.accelerator: measure all that matters on a GPU in minutes."""

import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.table import Table

from aura_jax.cli.options import Overwrite
from aura_jax.cli.run import new_app, run
from aura_jax.console import messages, say
from aura_jax.errors import AuraError
from aura_jax.files import check_free
from benchmarks.accelerator_steps import REHEARSAL, WHOLE, Bench, Scale
from benchmarks.accelerator_targets import Judged, judge
from benchmarks.budget import Record, Step
from benchmarks.full_size_checkpoint import write_elsewhere
from benchmarks.prepared import WEIGHTS
from benchmarks.record import described, results_path
from benchmarks.table import print_wide, show
from benchmarks.variants import DEFAULT, EAGER
from benchmarks.workers.pool import Pool

app = new_app(add_completion=False)


@app.command(epilog="Example: python -m benchmarks.accelerator --budget 520 --out h100.json")
def main(
    budget: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            min=1,
            help="Time for the whole run. Measurements run in order of importance, and those for "
            "which too little time is left are dropped.",
        ),
    ] = 520,
    step: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Run this measurement, such as one that another run dropped; may be given several "
            "times. By default all.",
        ),
    ] = None,
    rehearse: Annotated[
        bool,
        typer.Option(
            "--rehearse",
            help="Run every measurement on the CPU with a tiny model. Its numbers mean nothing, "
            "and are written only to --out.",
        ),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="JSON file, written after each measurement; by default "
            "benchmarks/results/DEVICE-DATE-accelerator.json.",
        ),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Measure parity, speed, memory, dispatch and training on one GPU, beside the targets.

    PyTorch, eager and compiled, the plain model and `aura_jax.Codec` run in
    processes of their own. The exit status is 1 if a measurement fails or an
    error is over its tolerance; a missed target does not change it.
    """
    if out is not None:
        check_free(out, overwrite=overwrite)
    with tempfile.TemporaryDirectory() as name:
        variables = {"TORCHINDUCTOR_CACHE_DIR": str(Path(name) / "inductor")}
        variables |= {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""} if rehearse else {}
        with Pool(budget, **variables) as pool:
            bench, machine = _open(REHEARSAL if rehearse else WHOLE, pool, Path(name))
            if bench.platform == "cpu" and not rehearse:
                raise AuraError("JAX finds no GPU here; --rehearse runs everything on the CPU")
            steps = _chosen(bench.steps(), step or [])
            if out is None and not rehearse:
                out = results_path(machine, "-accelerator")
                check_free(out, overwrite=overwrite)
            record = Record(out, {**machine, "budget_seconds": budget, "rehearsal": rehearse})
            record.run(steps, lambda: pool.seconds_left)
    judged = judge(bench.cases, record.results)
    record.write(targets=[each.as_json() for each in judged])
    _print(bench, record, judged)
    if out is not None:
        say(f"wrote {out}")
    if record.errors or not _accurate(bench, record):
        raise typer.Exit(1)


def _open(scale: Scale, pool: Pool, folder: Path) -> tuple[Bench, dict[str, Any]]:
    """Start workers, describe the machine, and write the weights meanwhile."""
    bench = Bench(scale, pool, folder, platform="")
    jax, torch = bench.worker(DEFAULT), bench.worker(EAGER)
    write_elsewhere(folder / WEIGHTS, scale.speed[0].config)
    machine = described(jax, torch)
    bench.platform = machine["platform"]
    return bench, machine


def _chosen(steps: list[Step], names: list[str]) -> list[Step]:
    unknown = sorted({*names} - {step.name for step in steps})
    if unknown:
        known = ", ".join(step.name for step in steps)
        raise AuraError(f"step {', '.join(unknown)}: expected one of {known}")
    return [step for step in steps if not names or step.name in names]


def _print(bench: Bench, record: Record, judged: list[Judged]) -> None:
    show(bench.cases, markdown=True)
    for row in _parity(record):
        verdict = "ok" if row["passes"] else "FAIL"
        say(
            f"parity of {row['output']}, {row['mode']}, {row['dtype']}: error {row['error']:.2e}, "
            f"{verdict}, limit {row['limit']:.2e}"
        )
    if "train" in record.results:
        say(f"train step: {record.results['train']['minimum_seconds'] * 1e3:.1f} ms")
    table = Table("quantity", "target", "measured", "", box=box.MARKDOWN)
    for each in judged:
        table.add_row(*each.cells())
    print_wide(table)
    for name, error in record.errors.items():
        messages.print(f"failed: {name}: {error}", style="red")
    if record.dropped:
        say(f"dropped for lack of time: {', '.join(record.dropped)}")


def _parity(record: Record) -> list[dict[str, Any]]:
    named = [rows for name, rows in record.results.items() if name.startswith("parity")]
    return [row for rows in named for row in rows]


def _accurate(bench: Bench, record: Record) -> bool:
    golden = all(row["passes"] for row in _parity(record))
    return golden and all(case.passes for case in bench.cases)


if __name__ == "__main__":
    run(app)

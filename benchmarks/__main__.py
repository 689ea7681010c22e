"""The command python -m benchmarks: measure this model and its PyTorch twin side by side."""

from pathlib import Path
from typing import Annotated

import typer

from aura_jax.cli.options import Overwrite
from aura_jax.cli.run import new_app, run
from aura_jax.console import messages, say
from aura_jax.files import check_free
from benchmarks.cases import CASES, find_cases
from benchmarks.measure import measure
from benchmarks.record import describe, results_path, write_json
from benchmarks.results import CaseResult
from benchmarks.table import show
from benchmarks.variants import variants_of

app = new_app(add_completion=False)


@app.command(epilog="Example: python -m benchmarks --case ch128-256px-b1-float32 --markdown")
def main(
    case: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Measure this case; may be given several times. By default all cases of the "
            f"device's platform. Names: {', '.join(CASES)}.",
        ),
    ] = None,
    repeats: Annotated[
        int, typer.Option(min=1, help="Number of measurements of each variant.")
    ] = 5,
    compiled: Annotated[
        bool,
        typer.Option(
            "--compile/--no-compile", help="Also measure torch.compile, besides eager PyTorch."
        ),
    ] = True,
    autotuned: Annotated[
        bool | None,
        typer.Option(
            "--max-autotune/--no-max-autotune",
            help="Also measure torch.compile with mode max-autotune; by default only on a GPU, "
            "since it compiles slowly on a CPU.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="JSON file to write; by default benchmarks/results/DEVICE-DATE.json.",
        ),
    ] = None,
    overwrite: Overwrite = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the table as Markdown.")
    ] = False,
) -> None:
    """Compare the speed, memory and accuracy of encode and decode with PyTorch.

    The exit status is 1 if an error is over its tolerance.
    """
    find_cases(case or [], "cpu")  # refuse unknown names before any process starts
    machine = describe()
    platform = machine["platform"]
    out = out or results_path(machine)
    check_free(out, overwrite=overwrite)
    tuned = platform != "cpu" if autotuned is None else autotuned
    results: list[CaseResult] = []
    for each in find_cases(case or [], platform):
        messages.print(f"measuring {each.name}")
        variants = variants_of(each, compiled=compiled, autotuned=tuned)
        results.append(measure(each, variants, repeats, platform))
        # After each case, since a later one may fail.
        write_json(out, {**machine, "cases": [result.as_json() for result in results]})
    show(results, markdown=markdown)
    say(f"wrote {out}")
    if not all(result.passes for result in results):
        raise typer.Exit(1)


if __name__ == "__main__":
    run(app)

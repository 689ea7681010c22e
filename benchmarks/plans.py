"""The command python -m benchmarks.plans: compile for TPUs and an H100 that are not here."""

import datetime
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from aura_jax.cli.options import Overwrite
from aura_jax.cli.run import new_app, run
from aura_jax.console import messages, say
from aura_jax.errors import AuraError
from aura_jax.files import check_free, replacing
from benchmarks.flops import PARTS, Part
from benchmarks.planning import (
    CASES,
    CODEC_AND_BUCKETS,
    LARGEST,
    PLAIN_AND_CODEC,
    code,
    plan,
    tasks,
)
from benchmarks.plans_table import show, worse
from benchmarks.targets import TARGETS, versions

RESULTS = Path(__file__).parent / "results" / "plans.json"
SIZES = sorted({case.size for case in (*CASES, LARGEST)})
ABOUT = "Estimates by XLA's compilers for devices that were not present; nothing was measured."

app = new_app(add_completion=False)


@app.command(epilog="Example: python -m benchmarks.plans --target h100 --size 1024")
def main(
    target: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Compile for this target; may be given several times. v5e-8 is eight TPUs that "
            f"share the rows of one image. By default all of {', '.join(TARGETS)}.",
        ),
    ] = None,
    part: Annotated[
        list[Part] | None,
        typer.Option(help="Part to compile; may be given several times. By default both."),
    ] = None,
    size: Annotated[
        list[int] | None,
        typer.Option(
            metavar="PIXELS",
            help="Side of the images; may be given several times. By default all of "
            f"{', '.join(map(str, SIZES))}.",
        ),
    ] = None,
    buckets: Annotated[
        bool,
        typer.Option(
            "--buckets", help="Compare Codec without buckets with a bucket of the images' size."
        ),
    ] = False,
    out: Annotated[
        Path, typer.Option(help="JSON file to write, or to continue.", show_default=False)
    ] = RESULTS,
    overwrite: Overwrite = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the table as Markdown.")
    ] = False,
) -> None:
    """Compare the plain model with Codec by the plans of XLA's compilers for TPU and NVIDIA GPUs.

    The full model is compiled in bfloat16, for devices that need not be here: a
    TPU v5e, a TPU v6e and an H100. All numbers are estimates of the compilers,
    not measurements. A compilation takes seconds for the H100 and minutes for a
    TPU. The file is written after each; a call with the same packages and code
    continues it. The exit status is 1 if Codec is planned worse than the plain
    model.
    """
    variants = CODEC_AND_BUCKETS if buckets else PLAIN_AND_CODEC
    targets, sizes = _known("target", target, TARGETS), _known("size", size, SIZES)
    wanted = [*tasks(targets, part or PARTS, sizes, variants)]
    if not wanted:
        raise AuraError(
            f"no plans of these targets, parts and sizes: {LARGEST.size}² is only decoded, on h100 "
            "and v5e-8, and without buckets; v5e-8 has no other size"
        )
    content = _load(out, overwrite=overwrite)
    plans = content["plans"]
    for each in wanted:
        if not any(each.key.items() <= old.items() for old in plans):
            messages.print(f"compiling {' '.join(map(str, each.key.values()))}")
            plans.append(each.key | plan(each))
            _write(out, content)
    show(plans, variants, markdown=markdown)
    say(f"{ABOUT} See {out}")
    if lines := worse(plans):
        messages.print("planned worse than the plain model:", *lines, sep="\n  ")
        raise typer.Exit(1)


def _known[T](name: str, given: Sequence[T] | None, known: Sequence[T] | dict[T, Any]) -> list[T]:
    for each in given or ():
        if each not in known:
            raise AuraError(f"{name} {each}: expected one of {', '.join(map(str, known))}")
    return [*(given or known)]


def _load(out: Path, *, overwrite: bool) -> dict[str, Any]:
    """Return a file's content if the same packages and code made it, and an empty one if it is new.

    Raises:
        AuraError: if others made it and `overwrite` is false, or it cannot be written.
    """
    made_by = {"versions": versions(), "code": code()}
    if not overwrite and out.is_file():
        content = json.loads(out.read_text())
        if any(content.get(name) != value for name, value in made_by.items()):
            raise AuraError(
                f"{out}: other packages or other code made it; give another --out or --overwrite"
            )
        return content
    check_free(out, overwrite=overwrite)
    date = datetime.date.today().isoformat()
    return {"about": ABOUT, "date": date, "dtype": "bfloat16", **made_by, "plans": []}


def _write(out: Path, content: dict[str, Any]) -> None:
    with replacing(out) as path:
        path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")


if __name__ == "__main__":
    run(app)

"""Print results as a table."""

from collections.abc import Iterable

from rich import box
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from benchmarks.results import CaseResult, Row

COLUMNS = (
    *("size", "batch", "type", "", "variant", "min, ms", "median, ms", "ratio", "images/s"),
    *("TFLOP/s", "of ceiling", "peak memory", "compile, s", "dispatch, ms", "error", "accuracy"),
)
WIDTH = 250  # wide enough for each row to be one line, also in a file


def show(results: Iterable[CaseResult], *, markdown: bool) -> None:
    """Print a row for each case, direction and variant."""
    table = Table(*COLUMNS, box=box.MARKDOWN if markdown else box.SIMPLE_HEAD)
    for result in results:
        case = result.case
        size = f"{case.size}², ch={case.config.ch}"
        for row in result.rows():
            table.add_row(size, str(case.batch), case.dtype, *_cells(row))
    print_wide(table)


def print_wide(table: Table) -> None:
    """Print a table whose rows are never broken."""
    Console(width=WIDTH, markup=False, emoji=False, highlight=False).print(table)


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.part,
        row.variant,
        f"{row.minimum_seconds * 1e3:.2f}",
        f"{row.median_seconds * 1e3:.2f}",
        "" if row.ratio is None else f"{row.ratio:.2f}",
        f"{row.images_per_second:.3g}",
        f"{row.tflops:.3g}",
        "" if row.ceiling_share is None else f"{row.ceiling_share:.0%}",
        decimal(row.peak_bytes),
        f"{row.compile_seconds:.1f}",
        "" if row.dispatch_seconds is None else f"{row.dispatch_seconds * 1e3:.3f}",
        "" if row.error is None else f"{row.error:.2e}",
        _verdict(row),
    )


def _verdict(row: Row) -> str:
    if row.limit is None or row.error is None:
        return ""
    return f"{'ok' if row.passes else 'FAIL'}, limit {row.limit:.2e}"

"""Print the plans of the plain model beside those of Codec, and those of Codec beside buckets."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.planning import PLAIN_AND_CODEC, Pair

type Plan = dict[str, Any]

COLUMNS = (
    *("target", "part", "size", "batch", "estimated ms", "ratio", "TFLOP", "moved, GB", "ratio"),
    *("temporary, GB", "ratio", "kernel layout, MB", "attention"),
)
WIDTH = 200  # wide enough for each row to be one line, also in a file
SLACK = 1.001  # alignment may cost a few hundred bytes


def show(plans: Sequence[Plan], variants: Pair, *, markdown: bool) -> None:
    """Print a row for each target, part and batch: one variant, the other, and their ratio."""
    table = Table(*COLUMNS, box=box.MARKDOWN if markdown else box.SIMPLE_HEAD)
    for one, other in pairs(plans, variants):
        table.add_row(
            other["target"],
            other["part"],
            f"{other['size']}²",
            str(other["batch"]),
            _both(one, other, "milliseconds", 1),
            _ratio(one, other, "milliseconds"),
            _both(one, other, "flops", 1e12),
            _both(one, other, "bytes_moved", 1e9),
            _ratio(one, other, "bytes_moved"),
            _both(one, other, "temporary_bytes", 1e9),
            _ratio(one, other, "temporary_bytes"),
            _both(one, other, "kernel_layout_bytes", 1e6),
            " → ".join(map(_attention, (one, other))),
        )
    Console(width=WIDTH, markup=False, emoji=False, highlight=False).print(table)


def worse(plans: Sequence[Plan]) -> list[str]:
    """List the cases in which Codec takes more time or memory, or moves more bytes on a GPU."""
    lines = []
    for plain, codec in pairs(plans, PLAIN_AND_CODEC):
        case = f"{codec['target']} {codec['part']} {codec['size']}² batch {codec['batch']}"
        if "refused" in codec and "attention" in plain:
            lines.append(f"{case}: {codec['refused']}")
        timed = codec.get("milliseconds") is not None
        for name in ("milliseconds" if timed else "bytes_moved", "temporary_bytes"):
            ratio = quotient(plain, codec, name)
            if ratio is not None and ratio > SLACK:
                lines.append(f"{case}: {name} x {ratio:.3f}")
    return lines


def pairs(plans: Iterable[Plan], variants: Pair) -> Iterator[tuple[Plan, Plan]]:
    """Yield the plan of one variant, empty if there is none, with that of the other."""
    groups: dict[tuple, dict[str, Plan]] = {}
    for each in plans:
        key = (each["target"], each["part"], each["size"], each["batch"])
        groups.setdefault(key, {})[each["variant"]] = each
    for _, both in sorted(groups.items()):
        if variants[1] in both:
            yield both.get(variants[0], {}), both[variants[1]]


def quotient(one: Plan, other: Plan, name: str) -> float | None:
    """Return the other's value divided by the one's; None if one of them is missing."""
    below, above = one.get(name), other.get(name)
    return above / below if below and above is not None else None


def _both(one: Plan, other: Plan, name: str, unit: float) -> str:
    if other.get(name) is None and one.get(name) is None:
        return ""
    return " → ".join(_number(each.get(name), unit) for each in (one, other))


def _attention(plan: Plan) -> str:
    return plan.get("attention", "refused" if "refused" in plan else "-")


def _number(value: float | None, unit: float) -> str:
    return "-" if value is None else f"{value / unit:.3g}"


def _ratio(one: Plan, other: Plan, name: str) -> str:
    ratio = quotient(one, other, name)
    return "" if ratio is None else f"{ratio:.2f}"

"""Print the plans of the plain model beside those of Codec."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

type Plan = dict[str, Any]

COLUMNS = (
    *("target", "part", "size", "batch", "estimated ms", "ratio", "TFLOP", "moved, GB", "ratio"),
    *("temporary, GB", "ratio", "kernel layout, MB", "attention"),
)
WIDTH = 200  # wide enough for each row to be one line, also in a file
SLACK = 1.001  # alignment may cost a few hundred bytes


def show(plans: Sequence[Plan], *, markdown: bool) -> None:
    """Print a row for each target, part and batch: the plain model, then Codec, and their ratio."""
    table = Table(*COLUMNS, box=box.MARKDOWN if markdown else box.SIMPLE_HEAD)
    for plain, codec in pairs(plans):
        table.add_row(
            codec["target"],
            codec["part"],
            f"{codec['size']}²",
            str(codec["batch"]),
            _both(plain, codec, "milliseconds", 1),
            _ratio(plain, codec, "milliseconds"),
            _both(plain, codec, "flops", 1e12),
            _both(plain, codec, "bytes_moved", 1e9),
            _ratio(plain, codec, "bytes_moved"),
            _both(plain, codec, "temporary_bytes", 1e9),
            _ratio(plain, codec, "temporary_bytes"),
            _both(plain, codec, "kernel_layout_bytes", 1e6),
            " → ".join(map(_attention, (plain, codec))),
        )
    Console(width=WIDTH, markup=False, emoji=False, highlight=False).print(table)


def worse(plans: Sequence[Plan]) -> list[str]:
    """List the cases in which Codec takes more time or memory, or moves more bytes on a GPU."""
    lines = []
    for plain, codec in pairs(plans):
        case = f"{codec['target']} {codec['part']} {codec['size']}² batch {codec['batch']}"
        if "refused" in codec and "attention" in plain:
            lines.append(f"{case}: {codec['refused']}")
        timed = codec.get("milliseconds") is not None
        for name in ("milliseconds" if timed else "bytes_moved", "temporary_bytes"):
            ratio = quotient(plain, codec, name)
            if ratio is not None and ratio > SLACK:
                lines.append(f"{case}: {name} x {ratio:.3f}")
    return lines


def pairs(plans: Iterable[Plan]) -> Iterator[tuple[Plan, Plan]]:
    """Yield the plan of the plain model, empty if there is none, with that of Codec."""
    groups: dict[tuple, dict[str, Plan]] = {}
    for each in plans:
        key = (each["target"], each["part"], each["size"], each["batch"])
        groups.setdefault(key, {})[each["variant"]] = each
    for _, both in sorted(groups.items()):
        if "codec" in both:
            yield both.get("plain", {}), both["codec"]


def quotient(plain: Plan, codec: Plan, name: str) -> float | None:
    """Return Codec's value divided by the plain model's; None if one of them is missing."""
    one, other = plain.get(name), codec.get(name)
    return other / one if one and other is not None else None


def _both(plain: Plan, codec: Plan, name: str, unit: float) -> str:
    if codec.get(name) is None and plain.get(name) is None:
        return ""
    return " → ".join(_number(each.get(name), unit) for each in (plain, codec))


def _attention(plan: Plan) -> str:
    return plan.get("attention", "refused" if "refused" in plan else "-")


def _number(value: float | None, unit: float) -> str:
    return "-" if value is None else f"{value / unit:.3g}"


def _ratio(plain: Plan, codec: Plan, name: str) -> str:
    ratio = quotient(plain, codec, name)
    return "" if ratio is None else f"{ratio:.2f}"

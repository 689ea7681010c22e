"""The goals for an accelerator, and how close the measurements come."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from benchmarks.flops import PARTS, Part
from benchmarks.results import CaseResult
from benchmarks.variants import DEFAULT, EAGER

SPEED: dict[Part, float] = {"encode": 1.1, "decode": 1.25}  # of the best of PyTorch
CEILING = 0.6  # of large matrix products, at CEILING_SIZE
DISPATCH = 0.3e-3  # seconds
MEMORY = 1.0  # of PyTorch eager's


@dataclasses.dataclass(frozen=True)
class Judged:
    """A measured quantity beside its target.

    Attributes:
        quantity: what was measured.
        relation: whether the target is a lower or an upper bound.
        target: the bound.
        measured: the value.
        scale: the factor from the value to the printed one.
        unit: the unit of the printed value.
    """

    quantity: str
    relation: Literal["≥", "≤"]
    target: float
    measured: float
    scale: float = 1.0
    unit: str = ""

    @property
    def met(self) -> bool:
        """Whether the target is met (NaN never does)."""
        above = self.measured >= self.target
        return above if self.relation == "≥" else self.measured <= self.target

    def cells(self) -> tuple[str, str, str, str]:
        """Return the quantity, the target, the value and the verdict for a table."""
        target, measured = (
            f"{x * self.scale:.3g}{self.unit}" for x in (self.target, self.measured)
        )
        return self.quantity, f"{self.relation} {target}", measured, "met" if self.met else "MISSED"

    def as_json(self) -> dict[str, Any]:
        """Return the fields and the verdict as values of JSON."""
        return dataclasses.asdict(self) | {"met": self.met}


def judge(cases: Sequence[CaseResult], results: Mapping[str, Any]) -> list[Judged]:
    """Judge all that was measured; what was not measured is left out.

    Args:
        cases: the measured cases.
        results: the results of all steps by name.
    """
    judged = [each for case in cases for each in _speed_and_memory(case)]
    judged += _ceiling(cases)
    for part, seconds in results.get("dispatch", {}).items():
        judged.append(Judged(f"{part}, dispatch", "≤", DISPATCH, seconds, 1e3, " ms"))
    return judged


def _speed_and_memory(case: CaseResult) -> Iterator[Judged]:
    rows = {(row.part, row.variant): row for row in case.rows()}
    for part in PARTS:
        ours, eager = (rows.get((part, each.label)) for each in (DEFAULT, EAGER))
        name = f"{part} {case.case.name}"
        if ours is not None and ours.ratio is not None:
            yield Judged(f"{name}, speed against PyTorch", "≥", SPEED[part], ours.ratio, 1, "×")
        if ours is not None and eager is not None:
            share = ours.peak_bytes / eager.peak_bytes
            yield Judged(f"{name}, memory against PyTorch eager", "≤", MEMORY, share, 1, "×")


def _ceiling(cases: Sequence[CaseResult]) -> list[Judged]:
    """Judge the largest case that was compared with PyTorch: 1024² unless this is a rehearsal."""
    compared = [case for case in cases if {row.ratio for row in case.rows()} != {None}]
    if not compared:
        return []
    largest = max(compared, key=lambda case: case.case.size)
    return [
        Judged(f"{row.part} {largest.case.name}, of the matmul ceiling", "≥", CEILING, share)
        for row in largest.rows()
        if row.variant == DEFAULT.label and (share := row.ceiling_share) is not None
    ]

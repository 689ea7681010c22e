"""The results of measurements: times, ratios, and errors with their limits."""

import dataclasses
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from benchmarks.cases import Case
from benchmarks.flops import PARTS, Part
from benchmarks.variants import EAGER, FAST, Variant
from convert.tolerances import BF16_AGAINST_TORCH, FP32_FAST, FP32_PARITY


@dataclasses.dataclass(frozen=True)
class Measured:
    """The measurement of one variant in one case.

    Attributes:
        variant: the variant.
        compile_seconds: the time of PyTorch's first calls, or of building and warming up a codec.
        seconds: time of each call.
        errors: relative L2 errors; empty if they were not measured.
        peak_bytes: peak memory, on a GPU that of a call.
        dispatch_seconds: the time of a call minus that of its executable; None for PyTorch.
    """

    variant: Variant
    compile_seconds: float
    seconds: Mapping[Part, Sequence[float]]
    errors: Mapping[Part, float]
    peak_bytes: Mapping[Part, int]
    dispatch_seconds: Mapping[Part, float] | None


@dataclasses.dataclass(frozen=True)
class Row:
    """One variant in one direction; fields that were not measured, or do not apply, are None."""

    variant: str
    part: Part
    minimum_seconds: float
    median_seconds: float
    calls: int
    ratio: float | None
    images_per_second: float
    tflops: float
    ceiling_share: float | None
    peak_bytes: int
    compile_seconds: float
    dispatch_seconds: float | None
    error: float | None
    limit: float | None

    @property
    def passes(self) -> bool:
        """Whether the error is within the limit (NaN is not)."""
        return self.limit is None or self.error is None or self.error <= self.limit


@dataclasses.dataclass(frozen=True)
class CaseResult:
    """The measurements of all variants in one case.

    Attributes:
        case: the case.
        reference: the dtype of the run that errors are measured against, if they are.
        ceilings: tera-operations per second of large matrix products, by worker.
        measured: the variants that ran.
        failures: the errors of variants that failed, by label.
    """

    case: Case
    reference: str | None
    ceilings: Mapping[str, float]
    measured: Sequence[Measured]
    failures: Mapping[str, str]

    @property
    def passes(self) -> bool:
        """Whether the errors of every codec are within their limits."""
        return all(row.passes for row in self.rows())

    def rows(self) -> list[Row]:
        """Return a row for each direction and variant."""
        return [
            self._row(each, part)
            for part in PARTS
            for each in self.measured
            if part in each.seconds
        ]

    def as_json(self) -> dict[str, Any]:
        """Return the result as values of JSON."""
        fields = dataclasses.asdict(self.case) | {"name": self.case.name}
        return {
            "case": fields,
            "flops": {part: self.case.flops(part) for part in PARTS},
            "reference": self.reference,
            "ceiling_tflops": dict(self.ceilings),
            "failures": dict(self.failures),
            "rows": [dataclasses.asdict(row) | {"passes": row.passes} for row in self.rows()],
            "seconds": {m.variant.label: dict(m.seconds) for m in self.measured},
        }

    def _row(self, each: Measured, part: Part) -> Row:
        fastest = min(each.seconds[part])
        tflops = self.case.flops(part) / fastest / 1e12
        theirs = [min(m.seconds[part]) for m in self.measured if not m.variant.ours]
        return Row(
            variant=each.variant.label,
            part=part,
            minimum_seconds=fastest,
            median_seconds=median(each.seconds[part]),
            calls=len(each.seconds[part]),
            ratio=min(theirs) / fastest if theirs and each.variant.ours else None,
            images_per_second=self.case.batch / fastest,
            tflops=tflops,
            ceiling_share=tflops / max(self.ceilings.values()) if self.ceilings else None,
            peak_bytes=each.peak_bytes[part],
            compile_seconds=each.compile_seconds,
            dispatch_seconds=(each.dispatch_seconds or {}).get(part),
            error=each.errors.get(part),
            limit=self._limit(part, each.variant) if each.variant.ours else None,
        )

    def _limit(self, part: Part, variant: Variant) -> float | None:
        if self.case.dtype == "float32":
            return FP32_FAST if variant == FAST else FP32_PARITY
        eager = (each.errors.get(part) for each in self.measured if each.variant == EAGER)
        error = next(eager, None)
        return None if error is None else BF16_AGAINST_TORCH * error

"""Add up the cycles that XLA:TPU estimates for the operations of a program.

The estimates are in the text of the compiled program. The compiler's own sum, `optimal_seconds` of
`cost_analysis`, overflows for large programs (libtpu 0.0.50).
"""

import dataclasses
import re
from collections.abc import Sequence

from aura_jax.config import HEAD_DIM
from benchmarks.hlo import PALLAS, Operation, Program


@dataclasses.dataclass(frozen=True)
class Chip:
    """What turns estimates into time.

    Attributes:
        hertz: cycles per second.
        flops: peak bfloat16 operations per second.
        bandwidth: bytes of memory per second.
        matrix_unit: the side of its matrix units; products with fewer channels leave a part idle.
    """

    hertz: float
    flops: float
    bandwidth: float
    matrix_unit: int


# The clocks are those at which the matrix units reach the published peaks: four of 128 × 128 on a
# v5e, four of 256 × 256 on a v6e.
V5E = Chip(1.5e9, 197e12, 819e9, 128)
V6E = Chip(1.75e9, 918e12, 1640e9, 256)


def milliseconds(program: Program, chip: Chip) -> float:
    """Estimate the time of a program for TPU, whose operations run one after the other."""
    return 1e3 * _seconds(program, program.entry, chip)


def _seconds(program: Program, operations: Sequence[Operation], chip: Chip) -> float:
    total = 0.0
    for each in operations:
        body = each.value(r"body=%?([\w.\-]+)") if each.opcode == "while" else None
        if body is not None:
            total += _trips(program, each) * _seconds(program, program.computations[body], chip)
        elif each.target == PALLAS:
            total += _kernel_seconds(each, chip)
        else:
            total += int(each.value(r'"estimated_cycles":"(\d+)"') or 0) / chip.hertz
    return total


def _trips(program: Program, loop: Operation) -> int:
    """Return how often a loop runs: as the compiler says, or as its condition compares."""
    known = loop.value(r'"known_trip_count":\{"n":"(\d+)"')
    if known is not None:
        return int(known)
    condition = loop.value(r"condition=%?([\w.\-]+)") or ""
    lines = "\n".join(each.line for each in program.computations[condition])
    limits = re.findall(r"constant\((\d+)\)", lines)
    return int(limits[-1]) if limits else 1


def _kernel_seconds(kernel: Operation, chip: Chip) -> float:
    """Estimate a Pallas kernel by its author's counts, since the compiler does not look inside.

    Heads of 64 channels fill only a part of a matrix unit.
    """
    flops, read = (
        int(kernel.value(rf'"cost_estimate":\{{[^}}]*"{name}":"(\d+)"') or 0)
        for name in ("flops", "bytes_accessed")
    )
    peak = chip.flops * min(1.0, HEAD_DIM / chip.matrix_unit)
    return max(flops / peak, read / chip.bandwidth)

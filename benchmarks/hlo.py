"""Read the text of a program that XLA has compiled: its operations, and the bytes they move.

The text is that of `jax.stages.Compiled.as_text`, as XLA of jax 0.12 writes it.
"""

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

COMPUTATION = re.compile(r"(ENTRY )?%?([\w.\-]+) \(.*\) -> .*\{$")
OPERATION = re.compile(r"\s+(?:ROOT )?%?([\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\((.*?)\)(?:,|$)")
ARRAY = re.compile(r"([a-z]+)(\d*)\w*\[([\d,]*)\]")
# These name an array or a part of one, and move nothing.
FREE = {"parameter", "get-tuple-element", "tuple", "bitcast", "constant"}
REARRANGING = {"copy", "fusion", "reverse", "transpose"}
PALLAS = "tpu_custom_call"
CUDNN_ATTENTION = "__cudnn$fmhaSoftmax"


@dataclasses.dataclass(frozen=True)
class Operation:
    """One line of a program.

    Attributes:
        name: the name of the result.
        shape: the type of the result; that of several results is in parentheses.
        opcode: the kind of the operation, such as fusion or custom-call.
        operands: the names of the operands.
        line: the whole line.
    """

    name: str
    shape: str
    opcode: str
    operands: Sequence[str]
    line: str

    @cached_property
    def arrays(self) -> Sequence[tuple[int, Sequence[int]]]:
        """The bytes of an element and the dimensions of each array of the result."""
        return [
            (int(bits or 8) // 8, [*map(int, filter(None, sides.split(",")))])
            for _, bits, sides in ARRAY.findall(self.shape)
        ]

    @cached_property
    def bytes(self) -> int:
        """The bytes of the result."""
        return sum(size * math.prod(sides) for size, sides in self.arrays)

    @property
    def target(self) -> str | None:
        """The library function or kernel that a custom call runs."""
        return self.value(r'custom_call_target="([^"]+)"')

    def value(self, pattern: str) -> str | None:
        """Return the first group of a pattern in the line."""
        found = re.search(pattern, self.line)
        return found and found[1]


@dataclasses.dataclass(frozen=True)
class Program:
    """A compiled program.

    Attributes:
        computations: the operations of each computation, by name.
        entry: the operations that run one after the other, each of which reads its operands from
            memory and writes its result there.
    """

    computations: Mapping[str, Sequence[Operation]]
    entry: Sequence[Operation]

    @classmethod
    def parse(cls, text: str) -> "Program":
        """Read a program's text."""
        computations: dict[str, list[Operation]] = {}
        name = entry = ""
        for line in text.splitlines():
            if start := COMPUTATION.match(line):
                name = start[2]
                entry = name if start[1] else entry
                computations[name] = []
            elif name and (found := OPERATION.match(line)):
                operands = re.findall(r"%([\w.\-]+)", found[4])
                computations[name].append(Operation(found[1], found[2], found[3], operands, line))
        return cls(computations, computations[entry])

    @cached_property
    def named(self) -> Mapping[str, Operation]:
        """The operations of the entry by name."""
        return {each.name: each for each in self.entry}

    @property
    def operations(self) -> Iterator[Operation]:
        """All operations, those inside fusions and loops included."""
        return (each for operations in self.computations.values() for each in operations)

    def moved(self, operation: Operation) -> int:
        """Return the bytes of the operands and the result of an operation of the entry."""
        if operation.opcode in FREE:
            return 0
        operands = (self.named[name] for name in operation.operands if name in self.named)
        return operation.bytes + sum(each.bytes for each in operands)

    @property
    def bytes_moved(self) -> int:
        """The bytes of the operands and results of the entry's operations; a loop counts once."""
        return sum(map(self.moved, self.entry))

    @cached_property
    def kernel_layout_bytes(self) -> int:
        """The bytes that operations move which only rearrange a kernel, in each call again.

        Every parameter is taken for a weight, except the last one.
        """
        parameters = [each for each in self.entry if each.opcode == "parameter"]
        last = max(parameters, key=lambda each: int(each.value(r" parameter\((\d+)\)") or 0))
        kernels = {each.name: each for each in parameters if each is not last}
        return sum(self.moved(each) for each in self.entry if _rearranges(each, kernels))

    def count(self, target: str) -> int:
        """Return the number of custom calls of a library function or kernel."""
        return sum(each.target == target for each in self.operations)

    @property
    def attention(self) -> str:
        """The kernel that computes attention, if the program has no other loop than attention's."""
        if self.count(CUDNN_ATTENTION):
            return "cuDNN"
        if self.count(PALLAS):
            return "Pallas"
        return "chunks" if any(each.opcode == "while" for each in self.entry) else "plain"


def _rearranges(operation: Operation, kernels: Mapping[str, Operation]) -> bool:
    if operation.opcode not in REARRANGING or len(operation.operands) != 1:
        return False
    kernel = kernels.get(operation.operands[0])
    if kernel is None or len(operation.arrays) != 1:
        return False
    ((_, before),), ((_, after),) = kernel.arrays, operation.arrays
    return len(before) > 1 and math.prod(before) == math.prod(after)

"""Compile the plain model and Codec's for a target, and read what their compiler plans."""

import ast
import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any, Literal

import jax
from flax import nnx
from jax import ShapeDtypeStruct
from jax.sharding import SingleDeviceSharding
from jax.stages import Compiled

import aura_jax
from aura_jax.dtypes import BFLOAT16, FLOAT32
from aura_jax.runtime import compile_for
from aura_jax.runtime.placement import Placement
from aura_jax.runtime.plan import Plan, with_dtype
from aura_jax.runtime.rewrite import rewritten
from benchmarks.cases import FULL, Case
from benchmarks.cycles import milliseconds
from benchmarks.flops import Part
from benchmarks.hlo import Program
from benchmarks.targets import TARGETS, devices_of

type Variant = Literal["plain", "codec", "buckets"]
type Pair = tuple[Variant, Variant]
PLAIN_AND_CODEC: Pair = ("plain", "codec")
CODEC_AND_BUCKETS: Pair = ("codec", "buckets")  # a program for images up to its size
ROOT = Path(__file__).parent.parent
# The sources that decide which operations a compiler gets, and how its plan is read.
SOURCES = (
    *("aura_jax/config.py", "aura_jax/model/*.py"),
    *(f"aura_jax/runtime/{name}.py" for name in ("plan", "region", "kernels/*")),
    *(f"benchmarks/{name}.py" for name in ("cycles", "hlo", "planning", "targets")),
)
CASES = tuple(
    Case(FULL, size, batch, "bfloat16")
    for size, batch in ((256, 1), (256, 8), (512, 1), (1024, 1), (2048, 1))
)
LARGEST = Case(FULL, 4096, 1, "bfloat16")  # for memory: decoded on a large GPU or by several TPUs


@dataclasses.dataclass(frozen=True)
class Task:
    """One program to compile: for a target, a part of the model, a batch and a variant."""

    target: str
    part: Part
    case: Case
    variant: Variant

    @property
    def key(self) -> dict[str, Any]:
        """The values that identify the task in a file of results."""
        return {
            "target": self.target,
            "part": self.part,
            "size": self.case.size,
            "batch": self.case.batch,
            "variant": self.variant,
        }


def tasks(
    targets: Sequence[str],
    parts: Sequence[Part],
    sizes: Sequence[int] = (),
    variants: Pair = PLAIN_AND_CODEC,
) -> Iterator[Task]:
    """Yield the tasks for these targets, parts and sizes, by default of all sizes."""
    cases = CASES if variants == CODEC_AND_BUCKETS else (*CASES, LARGEST)
    for target, case, part in product(targets, cases, parts):
        split, large = TARGETS[target].split, case is LARGEST
        known = part == "decode" and (split or target == "h100") if large else not split
        if known and (not sizes or case.size in sizes):
            yield from (Task(target, part, case, variant) for variant in variants)


def plan(task: Task) -> dict[str, Any]:
    """Compile a task's program, and return its plan in values of JSON.

    That of a program that does not fit the device's memory is the compiler's message.
    """
    try:
        return estimates(task, _compile(task))
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return {"refused": str(error).splitlines()[0]}


def estimates(task: Task, compiled: Compiled) -> dict[str, Any]:
    """Read the estimates of a compiled program, which are for each device."""
    program, chip = Program.parse(compiled.as_text() or ""), TARGETS[task.target].chip
    memory, cost = compiled.memory_analysis(), compiled.cost_analysis() or {}
    assert memory is not None, "this compiler reports no memory"
    return {
        "milliseconds": chip and milliseconds(program, chip),
        "flops": cost.get("flops"),  # XLA:GPU has no cost analysis of a described device
        "bytes_moved": cost.get("bytes accessed", program.bytes_moved),
        "temporary_bytes": memory.temp_size_in_bytes,
        "argument_bytes": memory.argument_size_in_bytes,
        "output_bytes": memory.output_size_in_bytes,
        "kernel_layout_bytes": program.kernel_layout_bytes,
        "attention": program.attention,
    }


def code() -> str:
    """Return a checksum of the code that decides plans, without its comments and docstrings."""
    digest = hashlib.sha256()
    for pattern in SOURCES:
        for path in sorted(ROOT.glob(pattern)):
            tree = ast.parse(path.read_text())
            for node in ast.walk(tree):
                if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                    node.value.value = None
            digest.update(ast.dump(tree).encode())
    return digest.hexdigest()


def _compile(task: Task) -> Compiled:
    devices, case = devices_of(task.target), task.case
    sharding = TARGETS[task.target].sharding(devices)
    if task.variant == "plain":
        return _compile_plain(task, Placement(sharding or SingleDeviceSharding(devices[0])))
    shape = (case.batch, case.size, case.size)
    return compile_for(
        devices,
        task.part,
        shape,
        config=case.config,
        dtype=case.dtype,
        sharding=sharding,
        buckets=task.variant == "buckets",
    )


def _compile_plain(task: Task, place: Placement) -> Compiled:
    """Compile what `aura_jax.encode` or `aura_jax.decode` runs, without weights."""
    case = task.case

    def build() -> aura_jax.AuraEquiVAE:
        vae = aura_jax.AuraEquiVAE(
            case.config, dtype=BFLOAT16, param_dtype=BFLOAT16, rngs=nnx.Rngs(0)
        )
        # Its convolutions keep sums in float32 where JAX's default device is a CPU, as here.
        return rewritten(vae, BFLOAT16, Plan(with_dtype))

    vae = jax.tree.map(
        lambda x: ShapeDtypeStruct(x.shape, x.dtype, sharding=place.weights), nnx.eval_shape(build)
    )
    dtype = FLOAT32 if task.part == "encode" else BFLOAT16
    x = ShapeDtypeStruct(case.shape(task.part), dtype, sharding=place.sharding)
    function = jax.jit(getattr(aura_jax, task.part))
    return function.lower(vae, x).compile({**TARGETS[task.target].options})

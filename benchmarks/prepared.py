"""Prepare the variants of one case in their workers, on the same inputs, and measure them."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from aura_jax.config import LATENT_LIMIT
from aura_jax.errors import AuraError
from benchmarks.cases import Case
from benchmarks.flops import PARTS, Part
from benchmarks.results import CaseResult, Measured
from benchmarks.variants import DEFAULT, EAGER, Variant
from benchmarks.workers.process import Worker

WEIGHTS = "weights.safetensors"

type Seconds = Mapping[Part, list[float]]
type Bytes = Mapping[Part, int]
type Errors = Mapping[Part, Mapping[str, float]]


@dataclasses.dataclass
class Prepared:
    """Workers that hold a model and its inputs, ready to be timed.

    Attributes:
        case: the case.
        folder: the folder of weights, inputs and outputs.
        parts: the directions to measure.
        workers: the workers by variant.
        compile_seconds: the time that each took to compile.
        failures: the errors of variants that failed.
    """

    case: Case
    folder: Path
    parts: Sequence[Part]
    workers: dict[Variant, Worker] = dataclasses.field(default_factory=dict)
    compile_seconds: dict[Variant, float] = dataclasses.field(default_factory=dict)
    failures: dict[Variant, str] = dataclasses.field(default_factory=dict)

    def times(self, repeats: int) -> Mapping[Variant, Seconds]:
        """Time calls in turns, so that other load on a shared machine slows all equally."""
        seconds: dict[Variant, dict[Part, list[float]]] = {
            variant: {part: [] for part in self.parts} for variant in self.workers
        }
        for part in self.parts:
            for _ in range(repeats):
                for variant, worker in self.workers.items():
                    seconds[variant][part] += worker.ask("run", part=part)
        return seconds

    def peaks(self) -> Mapping[Variant, Bytes]:
        """Return the peak memory of each variant and direction."""
        return {
            variant: {part: worker.ask("peak", part=part) for part in self.parts}
            for variant, worker in self.workers.items()
        }

    def errors(self, reference: str, *, close: bool = False) -> Errors:
        """Return errors by direction and mode; PyTorch eager's worker computes the reference.

        Args:
            reference: the dtype of the run that errors are measured against.
            close: whether to end all other workers before that run, which frees their memory.
        """
        outputs = {part: {} for part in self.parts}
        for variant, worker in self.workers.items():
            for part in self.parts:
                path = outputs[part][variant.mode] = str(self.folder / f"{part}-{variant.mode}.npy")
                worker.ask("save", part=part, path=path)
            if close and variant != EAGER:
                worker.close()
        return self.workers[EAGER].ask("errors", dtype=reference, outputs=outputs)

    def result(
        self,
        seconds: Mapping[Variant, Seconds],
        peaks: Mapping[Variant, Bytes],
        errors: Errors,
        *,
        reference: str | None,
        ceilings: Mapping[str, float],
        dispatch: Mapping[Part, float] | None = None,
    ) -> CaseResult:
        """Put together what was measured."""
        measured = [
            Measured(
                variant=variant,
                compile_seconds=self.compile_seconds[variant],
                seconds=seconds[variant],
                errors={part: found[variant.mode] for part, found in errors.items()},
                peak_bytes=peaks[variant],
                dispatch_seconds=dispatch if variant == DEFAULT else None,
            )
            for variant in self.workers
        ]
        failures = {variant.label: error for variant, error in self.failures.items()}
        return CaseResult(self.case, reference, ceilings, measured, failures)


def prepare(
    case: Case,
    variants: Sequence[Variant],
    start: Callable[[Variant], Worker],
    folder: Path,
    platform: str,
    parts: Sequence[Part] = PARTS,
) -> Prepared:
    """Let each variant load the weights of a folder, and compile; close those that fail.

    Args:
        case: the case.
        variants: the variants in the order of their turns.
        start: returns the worker of a variant.
        folder: the folder that holds WEIGHTS, for inputs and outputs.
        platform: JAX's platform, "cpu" or "gpu", which PyTorch uses too.
        parts: the directions to measure.
    """
    _write_inputs(case, folder, parts)
    prepared = Prepared(case, folder, parts)
    shared = {"folder": str(folder), "dtype": case.dtype, "parts": parts}
    torch = {"config": case.config.to_json(), "platform": platform}
    for variant in variants:
        worker, asked = start(variant), shared | ({} if variant.ours else torch)
        try:
            seconds = worker.ask("prepare", mode=variant.mode, **asked)
        except AuraError as error:
            prepared.failures[variant] = str(error)
            worker.close()
        else:
            prepared.workers[variant], prepared.compile_seconds[variant] = worker, seconds
    return prepared


def _write_inputs(case: Case, folder: Path, parts: Sequence[Part]) -> None:
    """Write the inputs that every worker reads."""
    rng = np.random.default_rng(0)
    for part in parts:
        shape = case.shape(part)
        if part == "encode":
            x = rng.uniform(-1, 1, shape)
        else:
            x = rng.standard_normal(shape).clip(-LATENT_LIMIT, LATENT_LIMIT)
        np.save(folder / f"{part}.npy", x.astype(np.float32))

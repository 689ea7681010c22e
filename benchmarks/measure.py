"""Measure one case: all variants in alternation, each in its own process, on the same inputs."""

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from aura_jax.errors import AuraError
from benchmarks.cases import TINY_CASES, Case
from benchmarks.full_size_checkpoint import write_elsewhere
from benchmarks.prepared import WEIGHTS, Prepared, prepare
from benchmarks.results import CaseResult
from benchmarks.variants import DEFAULT, EAGER, Variant
from benchmarks.workers.process import Worker

# For larger images a run in float64 exceeds a GPU's memory, and float32 is exact enough.
LARGEST_IN_FLOAT64 = 1024


def measure(case: Case, variants: Sequence[Variant], repeats: int, platform: str) -> CaseResult:
    """Measure a case.

    Args:
        case: the case.
        variants: the variants in the order of their turns; they must include PyTorch eager and
            `aura_jax.Codec`.
        repeats: the number of turns of each variant in each direction.
        platform: JAX's platform, "cpu" or "gpu", which PyTorch uses too.

    Raises:
        AuraError: if a variant fails, other than compiled PyTorch, whose failure the result
            records.
    """
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        write_elsewhere(folder / WEIGHTS, case.config)

        def start(variant: Variant) -> Worker:
            # An empty cache for each run, since compiling is timed.
            cache = {"TORCHINDUCTOR_CACHE_DIR": str(folder / f"{variant.mode}-cache")}
            return stack.enter_context(Worker(variant.worker, **cache))

        prepared = prepare(case, variants, start, folder, platform)
        for variant, error in prepared.failures.items():
            if variant.ours or variant == EAGER:
                raise AuraError(error)
        return _measure(prepared, repeats)


def _measure(prepared: Prepared, repeats: int) -> CaseResult:
    case = prepared.case
    seconds, peaks = prepared.times(repeats), prepared.peaks()
    judges = {each.worker: prepared.workers[each] for each in (EAGER, DEFAULT)}
    # A trial of the benchmark itself need not wait: torch takes minutes on a CPU without bfloat16.
    side = 128 if case in TINY_CASES else None
    ceilings = {
        name: worker.ask("ceiling", dtype=case.dtype, side=side) for name, worker in judges.items()
    }
    config = case.config.to_json()
    dispatch = judges[DEFAULT.worker].ask("dispatch", config=config, dtype=case.dtype)
    reference = "float64" if case.size <= LARGEST_IN_FLOAT64 else "float32"
    errors = prepared.errors(reference, close=True)
    return prepared.result(
        seconds, peaks, errors, reference=reference, ceilings=ceilings, dispatch=dispatch
    )

"""Measure one case: all variants in alternation, each in its own process, on the same inputs."""

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from aura_jax.config import LATENT_LIMIT
from aura_jax.errors import AuraError
from benchmarks.cases import TINY_CASES, Case
from benchmarks.flops import PARTS, Part
from benchmarks.full_size_checkpoint import write_elsewhere
from benchmarks.results import CaseResult, Measured
from benchmarks.variants import DEFAULT, EAGER, Variant
from benchmarks.workers.process import Worker

# For larger images a run in float64 exceeds a GPU's memory, and float32 is exact enough.
LARGEST_IN_FLOAT64 = 1024

type Workers = Mapping[Variant, Worker]
type Seconds = dict[Part, list[float]]


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
        _write_inputs(case, folder)
        workers, compile_seconds, failures = {}, {}, {}
        for variant in variants:
            # An empty cache for each run, since compiling is timed.
            cache = {"TORCHINDUCTOR_CACHE_DIR": str(folder / f"{variant.mode}-cache")}
            worker = stack.enter_context(Worker(variant.worker, **cache))
            try:
                compile_seconds[variant] = _prepare(worker, variant, case, folder, platform)
            except AuraError as error:
                if variant.ours or variant == EAGER:
                    raise
                failures[variant.label] = str(error)
                worker.close()
            else:
                workers[variant] = worker
        return _measure(case, workers, compile_seconds, repeats, folder, failures)


def _write_inputs(case: Case, folder: Path) -> None:
    """Write the files that every worker reads: the weights, and inputs to encode and decode."""
    write_elsewhere(folder / "weights.safetensors", case.config)
    rng = np.random.default_rng(0)
    images = rng.uniform(-1, 1, case.shape("encode"))
    latents = rng.standard_normal(case.shape("decode")).clip(-LATENT_LIMIT, LATENT_LIMIT)
    for part, array in zip(PARTS, (images, latents), strict=True):
        np.save(folder / f"{part}.npy", array.astype(np.float32))


def _prepare(worker: Worker, variant: Variant, case: Case, folder: Path, platform: str) -> float:
    shared = {"mode": variant.mode, "folder": str(folder), "dtype": case.dtype}
    twin = {} if variant.ours else {"config": case.config.to_json(), "platform": platform}
    return worker.ask("prepare", **shared, **twin)


def _measure(
    case: Case,
    workers: Workers,
    compile_seconds: Mapping[Variant, float],
    repeats: int,
    folder: Path,
    failures: Mapping[str, str],
) -> CaseResult:
    seconds = _take_turns(workers, repeats)
    peaks = {variant: worker.ask("peak") for variant, worker in workers.items()}
    judges = {variant: workers[variant] for variant in (EAGER, DEFAULT)}
    # A trial of the benchmark itself need not wait: torch takes minutes on a CPU without bfloat16.
    side = 128 if case in TINY_CASES else None
    ceilings = {v.worker: w.ask("ceiling", dtype=case.dtype, side=side) for v, w in judges.items()}
    config = case.config.to_json()
    dispatch = workers[DEFAULT].ask("dispatch", config=config, dtype=case.dtype)
    reference = "float64" if case.size <= LARGEST_IN_FLOAT64 else "float32"
    errors = _errors(workers, reference, folder)
    measured = [
        Measured(
            variant=variant,
            compile_seconds=compile_seconds[variant],
            seconds=seconds[variant],
            errors={part: errors[part][variant.mode] for part in PARTS},
            peak_bytes=peaks[variant],
            dispatch_seconds=dispatch if variant == DEFAULT else None,
        )
        for variant in workers
    ]
    return CaseResult(case, reference, ceilings, measured, failures)


def _take_turns(workers: Workers, repeats: int) -> dict[Variant, Seconds]:
    """Time calls in turns, so that other load on a shared machine slows all variants equally."""
    seconds: dict[Variant, Seconds] = {variant: {part: [] for part in PARTS} for variant in workers}
    for part in PARTS:
        for _ in range(repeats):
            for variant, worker in workers.items():
                seconds[variant][part] += worker.ask("run", part=part)
    return seconds


def _errors(workers: Workers, reference: str, folder: Path) -> Mapping[Part, Mapping[str, float]]:
    """Return errors by direction and mode, and end all workers except the reference's."""
    outputs = {part: {} for part in PARTS}
    for variant, worker in workers.items():
        for part in PARTS:
            path = outputs[part][variant.mode] = str(folder / f"{part}-{variant.mode}.npy")
            worker.ask("save", part=part, path=path)
        if variant != EAGER:
            worker.close()
    return workers[EAGER].ask("errors", dtype=reference, outputs=outputs)

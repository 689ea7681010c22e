"""The measurements of `python -m benchmarks.accelerator`, in order of importance."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aura_jax import AuraConfig
from aura_jax.errors import AuraError
from benchmarks.budget import Step
from benchmarks.cases import FULL, Case
from benchmarks.flops import PARTS, Part
from benchmarks.golden import OUTPUTS
from benchmarks.prepared import prepare
from benchmarks.results import CaseResult
from benchmarks.variants import BUCKET, COMPILED, DEFAULT, EAGER, PLAIN, Variant
from benchmarks.workers.pool import Pool
from benchmarks.workers.process import Worker

# One level compiles fastest.
TINY, DTYPE = AuraConfig(ch=32, ch_mult=(2,), num_res_blocks=1), "bfloat16"
# The process that has the GPU to itself may use nearly all of its memory.
ALONE = {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.92"}


@dataclasses.dataclass(frozen=True)
class Scale:
    """The sizes of all measurements.

    Attributes:
        speed: cases to compare all variants in.
        large: cases that only a codec decodes.
        golden: the golden outputs to compare with.
        variants: the variants to compare, in the order of their turns.
        repeats: the number of turns of each variant in each direction.
        side: the rows of matrices that are multiplied; None takes those of the platform.
        crops: the side and the number of the crops of a train step.
        weights: the checkpoint to train; None takes the one of the cases.
    """

    speed: tuple[Case, ...]
    large: tuple[Case, ...]
    golden: tuple[str, ...]
    variants: tuple[Variant, ...]
    repeats: int
    side: int | None
    crops: tuple[int, int]
    weights: str | None


WHOLE = Scale(
    speed=tuple(Case(FULL, *sizes, DTYPE) for sizes in ((256, 1), (1024, 1), (256, 16), (512, 1))),
    large=(Case(FULL, 4096, 1, DTYPE), Case(FULL, 2048, 1, DTYPE)),
    golden=(*OUTPUTS,),
    variants=(EAGER, COMPILED, PLAIN, DEFAULT),
    repeats=5,
    side=None,
    crops=(256, 16),
    weights="small",
)
REHEARSAL = Scale(
    speed=tuple(Case(TINY, *sizes, DTYPE) for sizes in ((8, 1), (16, 1), (8, 2), (12, 1))),
    large=(Case(TINY, 32, 1, DTYPE), Case(TINY, 24, 1, DTYPE)),
    golden=("latents", "odd_latents"),
    variants=(EAGER, PLAIN, DEFAULT),
    repeats=1,
    side=128,
    crops=(8, 2),
    weights=None,
)


@dataclasses.dataclass
class Bench:
    """The measurements, and what they share.

    Attributes:
        scale: the sizes.
        pool: the workers, which serve one case after another.
        folder: holds the weights of the cases' model.
        platform: JAX's platform, "cpu" or "gpu".
        ceilings: tera-operations per second of large matrix products by worker, once measured.
        cases: the cases that have been measured.
    """

    scale: Scale
    pool: Pool
    folder: Path
    platform: str
    ceilings: dict[str, float] = dataclasses.field(default_factory=dict)
    cases: list[CaseResult] = dataclasses.field(default_factory=list)

    def steps(self) -> list[Step]:
        """Return all steps, with seconds as on an H200.

        Of the large images only a lower bound is known: choosing kernels was not finished then.
        """
        speed = [
            Step(case.name, 60, lambda case=case: self.compare(case)) for case in self.scale.speed
        ]
        large = [
            Step(f"decode-{case.name}", 120, lambda case=case: self.decode_alone(case))
            for case in self.scale.large
        ]
        return [
            Step("parity", 15, lambda: self.parity(DEFAULT)),
            Step("ceiling", 5, self.ceiling),
            Step("dispatch", 10, self.dispatch),
            *speed,
            Step("train", 35, self.train),
            Step("parity-plain", 15, lambda: self.parity(PLAIN)),
            Step("parity-odd-sizes", 15, lambda: self.parity(DEFAULT, odd=True)),
            Step("bucket", 25, self.bucket),
            *large,
        ]

    def worker(self, variant: Variant) -> Worker:
        """Return the worker of a variant."""
        return self.pool.get(variant.mode, variant.worker)

    def parity(self, variant: Variant, *, odd: bool = False) -> list[dict[str, Any]]:
        """Return errors on the golden vectors of even sizes, or on those of odd ones.

        Only float32 has a limit at odd sizes, since PyTorch's bfloat16 is not recorded for them.
        """
        outputs = [name for name in self.scale.golden if name.startswith("odd") is odd]
        asked = {"mode": variant.mode, "outputs": outputs}
        return [
            row
            for dtype in ("float32", *[DTYPE] * (not odd))
            for row in self.worker(variant).ask("parity", dtype=dtype, **asked)
        ]

    def ceiling(self) -> dict[str, float]:
        """Measure large matrix products with JAX and with PyTorch."""
        for variant in (DEFAULT, EAGER):
            worker = self.worker(variant)
            tflops = worker.ask("ceiling", dtype=DTYPE, side=self.scale.side)
            self.ceilings[variant.worker] = tflops
        return self.ceilings

    def dispatch(self) -> dict[Part, float]:
        """Measure a codec's call minus its executable."""
        config = self.scale.speed[0].config.to_json()
        return self.worker(DEFAULT).ask("dispatch", config=config, dtype=DTYPE)

    def compare(self, case: Case) -> dict[str, Any]:
        """Compare all variants in speed, memory and accuracy."""
        return self._measured(case, self.scale.variants, PARTS)

    def bucket(self) -> dict[str, Any]:
        """Compare a codec that has a bucket of the image's size with one that has none."""
        return self._measured(self.scale.speed[0], (DEFAULT, BUCKET), PARTS)

    def decode_alone(self, case: Case) -> dict[str, Any]:
        """Measure a codec's decoding of a large image, with no other process on the GPU."""
        self.pool.close()
        try:
            self.pool.get(DEFAULT.mode, DEFAULT.worker, **ALONE)
            return self._measured(case, [DEFAULT], ["decode"])
        finally:
            self.pool.close()

    def train(self) -> dict[str, Any]:
        """Measure a train step of the small model, with no other process on the GPU."""
        self.pool.close()
        try:
            worker = self.pool.get("train", "jax_worker", **ALONE)
            weights = self.scale.weights or str(self.folder / "weights.safetensors")
            size, batch = self.scale.crops
            return worker.ask("train", weights=weights, dtype=DTYPE, size=size, batch=batch)
        finally:
            self.pool.close()

    def _measured(
        self, case: Case, variants: Sequence[Variant], parts: Sequence[Part]
    ) -> dict[str, Any]:
        prepared = prepare(case, variants, self.worker, self.folder, self.platform, parts)
        if not prepared.workers:
            raise AuraError("; ".join(prepared.failures.values()))
        seconds, peaks = prepared.times(self.scale.repeats), prepared.peaks()
        reference = "float32" if EAGER in prepared.workers else None
        errors = prepared.errors(reference) if reference else {}
        result = prepared.result(
            seconds, peaks, errors, reference=reference, ceilings=self.ceilings
        )
        self.cases.append(result)
        return result.as_json()

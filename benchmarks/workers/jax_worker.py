"""The worker that runs `aura_jax.Codec`, or the plain model."""

import gc
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax._src.lib import cuda_versions  # jax has no public name for it
from jaxtyping import Array

import aura_jax
from aura_jax import AuraConfig, AuraEquiVAE
from benchmarks.flops import PARTS, Part
from benchmarks.workers.calls import Call, JaxMode, compile_calls, planned_bytes
from benchmarks.workers.dispatch import dispatch_seconds
from benchmarks.workers.golden_errors import golden_errors
from benchmarks.workers.server import repeat, resident_peak, seconds_of, serve, teraflops

PACKAGES = ("jax", "jaxlib", "jax-cuda13-plugin", "flax", "numpy", "ml-dtypes")


class JaxWorker:
    """One model and its inputs."""

    def __init__(self):
        self._calls: dict[Part, Call] = {}
        self._inputs: dict[Part, Array] = {}

    def describe(self) -> dict[str, Any]:
        """Return the device and the versions of all packages."""
        device = jax.devices()[0]
        ours = {"python": platform.python_version(), "aura-jax": aura_jax.__version__}
        versions = {**ours, **{package: _version(package) for package in PACKAGES}}
        return {
            "platform": jax.default_backend(),
            "device": _cpu() if device.platform == "cpu" else device.device_kind,
            "cpu": _cpu(),
            "runtime": device.client.platform_version,
            "cuda": cuda_versions and cuda_versions.cuda_runtime_get_version(),
            "cudnn": cuda_versions and cuda_versions.cudnn_get_version(),
            "versions": versions,
        }

    def prepare(
        self, mode: JaxMode, folder: str, dtype: str, parts: Sequence[Part] = PARTS
    ) -> float:
        """Load weights and inputs, and free those before; return the seconds to compile and run."""
        self._calls, self._inputs = {}, {}
        gc.collect()
        vae = aura_jax.load(Path(folder) / "weights.safetensors", dtype=dtype)
        for part in parts:
            x, kind = np.load(Path(folder) / f"{part}.npy"), dtype if part == "decode" else None
            self._inputs[part] = jnp.asarray(x, kind)
        return seconds_of(lambda: self._compile(vae, mode))

    def _compile(self, vae: AuraEquiVAE, mode: JaxMode) -> None:
        self._calls = compile_calls(vae, mode, self._inputs)
        for part in self._calls:
            self._output(part)

    def run(self, part: Part) -> list[float]:
        """Return the seconds of each call of a repeat."""
        return repeat(lambda: self._output(part))

    def save(self, part: Part, path: str) -> None:
        """Write the first result of the batch to a file."""
        np.save(path, np.asarray(self._output(part)[:1], np.float32))

    def peak(self, part: Part) -> int:
        """Return the peak memory in bytes, on a GPU that of a call.

        A GPU's own record of the peak would include what XLA allocates to choose kernels.
        """
        gc.collect()
        stats = jax.devices()[0].memory_stats()
        if not stats:
            return resident_peak()
        return stats["bytes_in_use"] + planned_bytes(self._calls[part].compiled)

    def ceiling(self, dtype: str, side: int | None = None) -> float:
        """Return the tera-operations a second of large matrix products.

        Args:
            dtype: the dtype of the matrices.
            side: their rows and columns; by default 2048 on a CPU and 8192 on a GPU.
        """
        large, count = (2048, 1) if jax.default_backend() == "cpu" else (8192, 10)
        side = side or large
        x = jax.random.normal(jax.random.key(0), (side, side), dtype)
        product = jax.jit(lambda x: jnp.matmul(x, x, precision="highest"))

        def products() -> None:
            jax.block_until_ready([product(x) for _ in range(count)])

        products()
        return teraflops(products, count, side)

    def dispatch(self, config: str, dtype: str) -> dict[Part, float]:
        """Return the seconds that a call takes beyond its executable's own."""
        return dispatch_seconds(AuraConfig.from_json(config), dtype)

    def parity(self, mode: JaxMode, dtype: str, outputs: Sequence[str]) -> list[dict[str, Any]]:
        """Return errors on the golden vectors."""
        return golden_errors(mode, dtype, outputs)

    def train(self, weights: str, dtype: str, size: int, batch: int) -> dict[str, Any]:
        """Return the seconds of train steps."""
        from benchmarks.workers.training import train_seconds  # late: needs the extra `train`

        return train_seconds(weights, dtype, size, batch)

    def _output(self, part: Part) -> Array:
        return self._calls[part].run(self._inputs[part]).block_until_ready()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cpu() -> str:
    """Return the processor's model."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


if __name__ == "__main__":
    serve(JaxWorker())

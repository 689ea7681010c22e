"""The worker that runs `aura_jax.Codec`."""

import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax._src.lib import cuda_versions  # jax has no public name for it
from jaxtyping import Array

import aura_jax
from aura_jax import AuraConfig, Codec
from aura_jax.runtime.plan import Precision
from benchmarks.flops import PARTS, Part
from benchmarks.workers.dispatch import dispatch_seconds
from benchmarks.workers.server import repeat, resident_peak, serve, teraflops

PACKAGES = ("aura-jax", "jax", "jaxlib", "flax", "numpy", "ml-dtypes")


class JaxWorker:
    """One codec and its inputs."""

    def describe(self) -> dict[str, Any]:
        """Return the device and the versions of all packages."""
        device = jax.devices()[0]
        versions = {"python": platform.python_version(), **{p: version(p) for p in PACKAGES}}
        return {
            "platform": jax.default_backend(),
            "device": _cpu() if device.platform == "cpu" else device.device_kind,
            "cpu": _cpu(),
            "runtime": device.client.platform_version,
            "cudnn": cuda_versions and cuda_versions.cudnn_get_version(),
            "versions": versions,
        }

    def prepare(self, mode: Precision, folder: str, dtype: str) -> float:
        """Load weights and inputs; return the seconds to build and compile the codec."""
        vae = aura_jax.load(Path(folder) / "weights.safetensors", dtype=dtype)
        images, latents = (np.load(Path(folder) / f"{part}.npy") for part in PARTS)
        start = time.perf_counter()
        self._codec = Codec(vae, precision=mode)
        self._codec.warmup([images.shape])
        seconds = time.perf_counter() - start
        self._inputs = {"encode": jnp.asarray(images), "decode": jnp.asarray(latents, dtype)}
        return seconds

    def run(self, part: Part) -> list[float]:
        """Return the seconds of each call of a repeat."""
        return repeat(lambda: self._output(part))

    def save(self, part: Part, path: str) -> None:
        """Write the first result of the batch to a file."""
        np.save(path, np.asarray(self._output(part)[:1], np.float32))

    def peak(self) -> int:
        """Return the peak memory in bytes."""
        stats = jax.devices()[0].memory_stats()
        return stats["peak_bytes_in_use"] if stats else resident_peak()

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

    def _output(self, part: Part) -> Array:
        return getattr(self._codec, part)(self._inputs[part]).block_until_ready()


def _cpu() -> str:
    """Return the processor's model."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


if __name__ == "__main__":
    serve(JaxWorker())

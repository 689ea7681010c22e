"""Runs `aura_jax.Codec`."""

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
from aura_jax.runtime.rewrite import Precision
from benchmarks.flops import PARTS, Part
from benchmarks.workers.dispatch import dispatch_seconds
from benchmarks.workers.server import repeat, resident_peak, serve, teraflops

PACKAGES = ("aura-jax", "jax", "jaxlib", "flax", "numpy", "ml-dtypes")


class JaxWorker:
    """One codec and its inputs."""

    def describe(self) -> dict[str, Any]:
        """The device, and the version of everything."""
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
        """Loads the weights and inputs; seconds to build the codec and to compile it."""
        vae = aura_jax.load(Path(folder) / "weights.safetensors", dtype=dtype)
        images, latents = (np.load(Path(folder) / f"{part}.npy") for part in PARTS)
        start = time.perf_counter()
        self._codec = Codec(vae, precision=mode)
        self._codec.warmup([images.shape])
        seconds = time.perf_counter() - start
        self._inputs = {"encode": jnp.asarray(images), "decode": jnp.asarray(latents, dtype)}
        return seconds

    def run(self, part: Part) -> list[float]:
        """Seconds of each of a repeat's calls."""
        return repeat(lambda: self._output(part))

    def save(self, part: Part, path: str) -> None:
        """Writes the first result of the batch."""
        np.save(path, np.asarray(self._output(part)[:1], np.float32))

    def peak(self) -> int:
        """Bytes of memory that were held at most."""
        stats = jax.devices()[0].memory_stats()
        return stats["peak_bytes_in_use"] if stats else resident_peak()

    def ceiling(self, dtype: str) -> float:
        """Tera-operations a second of large matrix products."""
        side, count = (2048, 1) if jax.default_backend() == "cpu" else (8192, 10)
        x = jax.random.normal(jax.random.key(0), (side, side), dtype)
        product = jax.jit(lambda x: jnp.matmul(x, x, precision="highest"))

        def products() -> None:
            jax.block_until_ready([product(x) for _ in range(count)])

        products()
        return teraflops(products, count, side)

    def dispatch(self, config: str, dtype: str) -> dict[Part, float]:
        """Seconds that a call takes beyond its executable's own."""
        return dispatch_seconds(AuraConfig.from_json(config), dtype)

    def _output(self, part: Part) -> Array:
        return getattr(self._codec, part)(self._inputs[part]).block_until_ready()


def _cpu() -> str:
    """The processor's model."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


if __name__ == "__main__":
    serve(JaxWorker())

"""The worker that runs the PyTorch twin, and measures all errors against a float64 run of it."""

import gc
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  PyTorch's own spelling
from safetensors.torch import load_file
from torch import Tensor

from aura_jax import AuraConfig
from aura_jax.arrays import relative_error
from benchmarks.flops import PARTS, Part
from benchmarks.variants import Mode
from benchmarks.workers.server import repeat, resident_peak, seconds_of, serve, teraflops
from convert.torch_reference import TorchAuraEquiVAE

WARM_CALLS = {"max-autotune": 2}  # the second call records a CUDA graph
SDPA = "scaled_dot_product_attention"
QUERIES = 1024  # at a time: attention in float64 has only kernels that store tokens × tokens


class TorchWorker:
    """One model and its inputs, in inference mode and channels_last."""

    def __init__(self):
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def describe(self) -> dict[str, Any]:
        """Return the versions and settings of PyTorch."""
        return {
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            "threads": torch.get_num_threads(),
        }

    def prepare(
        self,
        mode: Mode,
        folder: str,
        dtype: str,
        config: str,
        platform: str,
        parts: Sequence[Part] = PARTS,
    ) -> float:
        """Load weights and inputs, and free those before; return the seconds of the first calls.

        The first calls compile.
        """
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.allow_tf32 = False  # float32 is held to float32's accuracy
        self._folder, self._config = Path(folder), AuraConfig.from_json(config)
        self._device = torch.device("cuda" if platform == "gpu" else "cpu")
        self._free()
        model = self._model(getattr(torch, dtype))
        self._calls = {part: _compiled(getattr(model, part), mode) for part in parts}
        self._inputs = {part: self._input(part).to(getattr(torch, dtype)) for part in parts}
        seconds = sum(seconds_of(lambda part=part: self._output(part)) for part in parts)
        for part in parts:
            for _ in range(WARM_CALLS.get(mode, 1)):
                self._output(part)
        return seconds

    def run(self, part: Part) -> list[float]:
        """Return the seconds of each call of a repeat."""
        return repeat(lambda: self._output(part))

    def save(self, part: Part, path: str) -> None:
        """Write the first result of the batch to a file, NHWC."""
        np.save(path, _nhwc(self._output(part)[:1].float()))

    def peak(self, part: Part) -> int:
        """Return the peak memory in bytes, on a GPU that of a call.

        Memory that cuDNN takes to choose kernels, in the first calls, does not count.
        """
        if self._device.type != "cuda":
            return resident_peak()
        torch.cuda.reset_peak_memory_stats()
        self._output(part)
        return torch.cuda.max_memory_allocated()

    def ceiling(self, dtype: str, side: int | None = None) -> float:
        """Return the tera-operations a second of large matrix products.

        Args:
            dtype: the dtype of the matrices.
            side: their rows and columns; by default 2048 on a CPU and 8192 on a GPU.
        """
        large, count = (2048, 1) if self._device.type == "cpu" else (8192, 10)
        side = side or large
        x = torch.randn(side, side, device=self._device, dtype=getattr(torch, dtype))

        def products() -> None:
            for _ in range(count):
                torch.matmul(x, x)
            self._wait()

        products()
        return teraflops(products, count, side)

    def errors(
        self, dtype: str, outputs: Mapping[Part, Mapping[str, str]]
    ) -> dict[Part, dict[str, float]]:
        """Compute relative L2 errors of saved results against a run in another dtype.

        The model that was measured is freed. cuDNN does not try all kernels, since they run once.

        Args:
            dtype: the dtype of that run.
            outputs: files of results by the mode that computed them, for each part.
        """
        self._free()
        torch.backends.cudnn.benchmark = False
        model = self._model(getattr(torch, dtype))
        found = {}
        for part in outputs:
            x = self._input(part)[:1].to(getattr(torch, dtype))
            with torch.inference_mode(), patch.object(F, SDPA, _attention_by_queries):
                exact = _nhwc(getattr(model, part)(x))
            files = outputs[part].items()
            found[part] = {name: relative_error(np.load(path), exact) for name, path in files}
        return found

    def _free(self) -> None:
        """Free a model, its compiled code and its inputs, for other processes too."""
        self._calls, self._inputs = {}, {}
        if "torch._dynamo" in sys.modules:  # importing it takes seconds
            torch.compiler.reset()
        gc.collect()
        torch.cuda.empty_cache()  # nothing where there is no GPU

    def _model(self, dtype: torch.dtype) -> TorchAuraEquiVAE:
        with torch.device("meta"):
            model = TorchAuraEquiVAE(self._config)
        weights = load_file(self._folder / "weights.safetensors", self._device.type)
        model.load_state_dict(weights, assign=True)
        return model.to(dtype).to(memory_format=torch.channels_last).eval()

    def _input(self, part: Part) -> Tensor:
        """Load an input as NCHW; in memory it is channels_last."""
        x = torch.from_numpy(np.load(self._folder / f"{part}.npy"))
        return x.to(self._device).movedim(3, 1)

    def _output(self, part: Part) -> Tensor:
        with torch.inference_mode():
            output = self._calls[part](self._inputs[part])
        self._wait()
        return output

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize()


def _attention_by_queries(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Compute attention for a part of the queries at a time."""
    parts = (torch.softmax(p @ k.mT / k.shape[-1] ** 0.5, -1) @ v for p in q.split(QUERIES, -2))
    return torch.cat([*parts], -2)


def _compiled(function: Callable[[Tensor], Tensor], mode: Mode) -> Callable[[Tensor], Tensor]:
    if mode == "eager":
        return function
    return torch.compile(function, mode=None if mode == "compile" else mode, dynamic=False)


def _nhwc(x: Tensor) -> np.ndarray:
    return x.movedim(1, 3).cpu().numpy()


if __name__ == "__main__":
    serve(TorchWorker())

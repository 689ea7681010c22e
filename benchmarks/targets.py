"""The accelerators that plans are made for, described instead of present."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, Sharding

from aura_jax.extras import needs
from benchmarks.cycles import V5E, V6E, Chip

H100 = Path(__file__).parent / "data" / "h100.txtpb"  # XLA's GpuTargetConfigProto
PACKAGES = (
    *("jax", "jaxlib", "flax"),
    *("libtpu", "jax-cuda13-plugin", "jax-cuda13-pjrt", "nvidia-cudnn-cu13"),
)


@dataclasses.dataclass(frozen=True)
class Target:
    """Devices that a compiler can plan for.

    Attributes:
        plugin: the module of the compiler.
        topology: the arguments of `jax.experimental.topologies.get_topology_desc`.
        chip: a TPU's speed; None for a GPU, whose compiler estimates no time.
        split: whether all devices share the rows of an image; by default the first one is used.
        options: XLA's compiler options.
    """

    plugin: str
    topology: Mapping[str, str]
    chip: Chip | None = None
    split: bool = False
    options: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def sharding(self, devices: Sequence[Any]) -> Sharding | None:
        """Return the sharding of images, if the devices share them."""
        if not self.split:
            return None
        mesh = Mesh(np.array(devices), ("rows",), axis_types=(AxisType.Auto,))
        return NamedSharding(mesh, PartitionSpec(None, "rows"))


def _tpu(name: str, chip: Chip, *, split: bool = False) -> Target:
    return Target("libtpu", {"platform": "tpu", "topology_name": name}, chip, split)


TARGETS = {
    "h100": Target(
        "jax_cuda13_plugin",
        {
            "platform": "cuda",
            "topology_name": "",
            "topology": "1x1x1",
            "target_config": H100.read_text(),
        },
        options={"xla_gpu_autotune_level": "0"},  # autotuning would run kernels
    ),
    "v5e": _tpu("v5e:2x2", V5E),
    "v5e-8": _tpu("v5e:2x4", V5E, split=True),
    "v6e": _tpu("v6e:2x2", V6E),
}


@cache
def devices_of(name: str) -> Sequence[Any]:
    """Describe the devices of a target.

    Raises:
        AuraError: if the compiler for them is not installed.
    """
    target = TARGETS[name]
    jax.config.update("jax_platforms", "cpu")  # else the CUDA plugin refuses a machine without GPU
    # libtpu would ask for the TPU's host, and would let one process at a time use the TPU.
    for variable in ("TPU_SKIP_MDS_QUERY", "ALLOW_MULTIPLE_LIBTPU_LOAD"):
        os.environ.setdefault(variable, "1")
    with needs("plans"):
        import_module(target.plugin)
    return topologies.get_topology_desc(**target.topology).devices


def versions() -> dict[str, str | None]:
    """Return the versions of the packages that decide a plan; None for those not installed."""
    return {package: _version(package) for package in PACKAGES}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None

"""Compile for devices that need not be here, and read the plans of their compilers."""

from collections.abc import Sequence
from typing import Any

from jax.sharding import Sharding, SingleDeviceSharding
from jax.stages import Compiled
from jax.typing import DTypeLike

from aura_jax.config import AuraConfig
from aura_jax.dtypes import as_dtype
from aura_jax.errors import ArrayError, AuraError
from aura_jax.runtime.networks import PARTS, Part, network_program
from aura_jax.runtime.placement import Placement
from aura_jax.runtime.plan import CompilerOptions, Precision, masked_plan, plan_for
from aura_jax.runtime.rewrite import abstract_rewritten


def compile_for(
    devices: Sequence[Any],
    part: Part,
    shape: tuple[int, int, int],
    *,
    config: AuraConfig = AuraConfig(),
    dtype: DTypeLike = "bfloat16",
    precision: Precision = "highest",
    sharding: Sharding | None = None,
    buckets: bool = False,
) -> Compiled:
    """Compile what `Codec` would run on these devices, without weights and without running it.

    The compilers of TPUs and NVIDIA GPUs work without a device, for a topology that
    `jax.experimental.topologies` describes:

        topology = topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x2")
        compiled = compile_for(topology.devices, "decode", (1, 1024, 1024))
        compiled.memory_analysis().temp_size_in_bytes

    Args:
        devices: devices of this machine or of a topology.
        part: "encode" or "decode".
        shape: that of the images, (B, H, W).
        config: the sizes of the model; by default those of the published one.
        dtype: the dtype to compute in.
        precision: as for `Codec`.
        sharding: that of images and latents, over these devices; by default they lie on the first.
        buckets: whether the program takes images of any size up to the shape, as one of
            `Codec(buckets=...)` does.

    Raises:
        AuraError: if an argument is unknown, the shape is not that of images that the model can
            encode, or the sharding does not fit the shape or the devices.
    """
    _check(devices, part, shape, config)
    compute = as_dtype(dtype)
    place = Placement(SingleDeviceSharding(devices[0]) if sharding is None else sharding)
    if not place.sharding.device_set <= {*devices}:
        raise AuraError(f"sharding {place.sharding}: is over other devices than {[*devices]}")
    plan = plan_for(place, compute, precision)
    plan = masked_plan(plan) if buckets else plan
    model = abstract_rewritten(config, compute, plan)
    program = network_program(part, model, compute, plan, place, marked=buckets)
    batch, height, width = place.whole_batch(shape[0]), *shape[1:]
    place.check_rows("images", (batch, height, width, config.in_channels), config.downsampling)
    scale, channels = 1, config.in_channels
    if part == "decode":
        scale, channels = config.downsampling, config.z_channels
    inputs = (batch, height // scale + buckets, width // scale + buckets, channels)
    options = (plan.options or {}) | _options_without(place.device)
    return program.lower(inputs).compile(options)


def _check(devices: Sequence[Any], part: str, shape: Sequence[int], config: AuraConfig) -> None:
    if part not in PARTS:
        raise AuraError(f"part {part!r}: expected {' or '.join(PARTS)}")
    if len(devices) == 0:
        raise AuraError("no devices: expected one or more of jax.devices() or of a topology")
    least = (1, config.downsampling, config.downsampling)
    if len(shape) != 3 or any(size < low for size, low in zip(shape, least, strict=True)):
        raise ArrayError(
            f"shape {tuple(shape)}: expected that of images, (batch, height, width), with sides of "
            f"{config.downsampling} or more"
        )


def _options_without(device: Any) -> CompilerOptions:
    """Return the options that a compiler needs if the device is only described.

    Autotuning would measure kernels on the GPU.
    """
    is_described = "CompileOnly" in type(device.client).__name__
    return {"xla_gpu_autotune_level": "0"} if is_described and device.platform == "gpu" else {}

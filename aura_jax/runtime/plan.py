"""Which kernels run a model on which platform, and how XLA compiles it there.

| | CPU | CUDA | TPU | TPU v6e | others |
|---|---|---|---|---|---|
| norms | behind barriers | plain | plain | plain | plain |
| upsampling | 2×2 conv. | transposed conv. | transposed conv.² | plain | plain |
| kernels stored | HWIO | OHWI | HWIO | HWIO | HWIO |
| attention, half precision | chunks | cuDNN | Pallas¹ | Pallas¹ if large | chunks |
| attention, float32 | chunks | chunks | chunks | chunks | chunks |
| masks of padded images | repeated | repeated | convolved³ | convolved³ | repeated |
| float32 at "fast" | Winograd | TF32 | 3 bfloat16 products | the same | JAX's "high" |

¹ in bfloat16; "large" is more in a decoder. ² below 1024 channels, unless devices share the rows
of images. ³ of fewer than eight images; of others from the place of each element.

Each choice is the fastest by time (CPU) or by the plan of the platform's own compiler (CUDA, TPU),
which `python -m benchmarks.plans` prints.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, get_args

import jax
import numpy as np
from flax import nnx

from aura_jax.dtypes import BFLOAT16, FLOAT32
from aura_jax.errors import AuraError
from aura_jax.model.layers import Attention, GroupNorm, Upsample, attention
from aura_jax.runtime.kernels.attention import (
    cudnn_attention,
    deferred_attention,
    over_mesh,
    pallas_attention,
    pallas_if_large,
    pallas_if_larger,
)
from aura_jax.runtime.kernels.conv import OutputFirstConv
from aura_jax.runtime.kernels.group_norm import FusedGroupNorm
from aura_jax.runtime.kernels.masked import Masked, MaskedNorm, masked
from aura_jax.runtime.kernels.masks import REPEATED, ConvolvedMasks, Masks
from aura_jax.runtime.kernels.upsample import FoldedUpsample, TransposedUpsample
from aura_jax.runtime.kernels.winograd import WinogradConv
from aura_jax.runtime.placement import Placement

type Precision = Literal["highest", "fast"]
type MatmulPrecision = Literal["high", "highest"]
type CompilerOptions = dict[str, str | bool]
type ReplaceConv = Callable[[nnx.Conv, np.dtype], nnx.Module]

PRECISIONS: tuple[Precision, ...] = get_args(Precision.__value__)
MATMUL_PRECISIONS: dict[Precision, MatmulPrecision] = {"highest": "highest", "fast": "high"}
TRANSPOSED_CHANNELS = 1024  # from as many on, a TPU's transposed convolution is planned slower
WINOGRAD_CHANNELS = 256  # with fewer channels the transforms cost more time than they save
AMPERE = 8.0  # the compute capability that cuDNN's attention needs


@dataclasses.dataclass(frozen=True)
class Plan:
    """The replacement of each kind of layer, and how to compile the result.

    Attributes:
        conv: makes a convolution that computes in a dtype.
        norm: makes a norm; None keeps the model's.
        upsample: makes an upsampling that computes in a dtype; None keeps the model's.
        attention: computes attention from queries, keys and values.
        decoder_attention: the decoder's, if it has another.
        masks: tells the valid elements of activations, for `masked_plan`.
        matmul_precision: JAX's precision for float32 matrix products and convolutions.
        options: XLA's compiler options, which apply to this model's executables alone.
    """

    conv: ReplaceConv
    norm: Callable[[GroupNorm], nnx.Module] | None = None
    upsample: Callable[[Upsample, np.dtype], nnx.Module] | None = None
    attention: Attention = attention
    decoder_attention: Attention | None = None
    masks: Masks = REPEATED
    matmul_precision: MatmulPrecision = "highest"
    options: CompilerOptions | None = None

    def with_attention(self, change: Callable[[Attention], Attention]) -> "Plan":
        """Change the attention of both networks."""
        decoders = self.decoder_attention
        return dataclasses.replace(
            self,
            attention=change(self.attention),
            decoder_attention=None if decoders is None else change(decoders),
        )

    def for_decoder(self) -> "Plan":
        """Return the plan of the decoder's layers."""
        return dataclasses.replace(self, attention=self.decoder_attention or self.attention)


def plan_for(place: Placement, dtype: np.dtype, precision: Precision) -> Plan:
    """Choose the kernels for the devices of a placement, which may be a topology's.

    Args:
        place: the devices, and how they share images.
        dtype: the dtype to compute in.
        precision: "highest" allows only replacements that are exact but for the order of sums.

    Raises:
        AuraError: if the precision is unknown.
    """
    plan = device_plan(place.device, dtype, precision, place.shards)
    mesh = place.mesh
    return plan if mesh is None else plan.with_attention(lambda attend: over_mesh(attend, mesh))


def masked_plan(plan: Plan) -> Plan:
    """Let the layers of a plan see only the valid part of padded images."""

    def conv(layer: nnx.Conv, dtype: np.dtype) -> nnx.Module:
        made = plan.conv(layer, dtype)
        return made if layer.kernel_size == (1, 1) else Masked(made, plan.masks)

    upsample = plan.upsample
    return dataclasses.replace(
        plan.with_attention(lambda attend: masked(attend, plan.masks)),
        conv=conv,
        norm=lambda layer: MaskedNorm(layer if plan.norm is None else plan.norm(layer), plan.masks),
        upsample=None if upsample is None else lambda *layer: Masked(upsample(*layer), plan.masks),
    )


def device_plan(
    device: Any, dtype: np.dtype, precision: Precision, shards: tuple[int, int] = (1, 1)
) -> Plan:
    """Choose the kernels for one device, which may be one of several.

    Args:
        device: the device, which may be a topology's.
        dtype: the dtype to compute in.
        precision: as `plan_for` takes it.
        shards: the number of parts that the batch and the rows are split into.

    Raises:
        AuraError: if the precision is unknown.
    """
    if precision not in PRECISIONS:
        raise AuraError(f"precision {precision!r}: expected one of {', '.join(PRECISIONS)}")
    plan, capability = Plan(with_dtype), compute_capability(device)
    if device.platform == "cpu":
        plan = _cpu_plan(dtype, precision)
    elif device.platform == "tpu":
        plan = _tpu_plan(device.device_kind, dtype, shards)
    elif capability is not None:
        attend = cudnn_attention if dtype.itemsize == 2 and capability >= AMPERE else attention
        plan = Plan(OutputFirstConv, upsample=TransposedUpsample, attention=attend)
    return dataclasses.replace(plan, matmul_precision=MATMUL_PRECISIONS[precision])


def compute_capability(device: Any) -> float | None:
    """Return the compute capability of an NVIDIA GPU; None for other devices."""
    capability = getattr(device, "compute_capability", "")
    return float(capability) if capability[:1].isdigit() else None  # an AMD GPU says "gfx942"


def with_dtype(conv: nnx.Conv, dtype: np.dtype) -> nnx.Conv:
    """Let a convolution compute in a dtype and hold its parameters in it.

    Its sums are of this dtype too, which oneDNN needs: see `aura_jax.model.layers.Conv`.
    """
    conv.dtype, conv.conv_general_dilated = dtype, jax.lax.conv_general_dilated
    for name in ("kernel", "bias"):
        param = getattr(conv, name)
        if param is not None:
            setattr(conv, name, nnx.Param(param[...].astype(dtype)))
    return conv


def _cpu_plan(dtype: np.dtype, precision: Precision) -> Plan:
    """Plan for a CPU.

    XLA's own convolutions compute in float32 internally, so bfloat16 uses oneDNN's. These are no
    faster in float32, and JAX 0.12 cannot store executables that call them in its compilation
    cache.
    """
    options: CompilerOptions = {"xla_cpu_experimental_onednn_custom_call": True}
    return Plan(
        conv=_winograd_if_wide if (dtype, precision) == (FLOAT32, "fast") else with_dtype,
        norm=FusedGroupNorm,
        upsample=FoldedUpsample,
        attention=deferred_attention,
        options=options if dtype == BFLOAT16 else None,
    )


def _tpu_plan(kind: str, dtype: np.dtype, shards: tuple[int, int]) -> Plan:
    """Plan for a TPU: the fastest for a v5e or a v6e.

    Where devices share rows, the transposed convolution is planned to save no time, and to need
    half again as much memory (4096² on eight v5e).
    """
    (batch, rows), is_v6e = shards, kind == "TPU v6 lite"
    kernels = (pallas_if_large, pallas_if_larger) if is_v6e else (pallas_attention, None)
    encoders, decoders = kernels if dtype == BFLOAT16 else (attention, None)
    return Plan(
        with_dtype,
        upsample=None if is_v6e or rows > 1 else _transposed_if_narrow,
        attention=encoders,
        decoder_attention=decoders,
        masks=ConvolvedMasks(batch),
    )


def _transposed_if_narrow(upsample: Upsample, dtype: np.dtype) -> nnx.Module:
    if upsample.conv.in_features < TRANSPOSED_CHANNELS:
        return TransposedUpsample(upsample, dtype)
    with_dtype(upsample.conv, dtype)
    return upsample


def _winograd_if_wide(conv: nnx.Conv, dtype: np.dtype) -> nnx.Module:
    """Use Winograd's convolution where it is faster: 3×3, of stride 1, and with many channels."""
    plain = conv.kernel_size == (3, 3) and conv.strides in (1, (1, 1))
    wide = min(conv.in_features, conv.out_features) >= WINOGRAD_CHANNELS
    return WinogradConv(conv) if plain and wide else with_dtype(conv, dtype)

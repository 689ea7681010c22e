"""Rewrite a trained model so that it computes the same function with less work."""

from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from aura_jax.errors import AuraError
from aura_jax.model.autoencoder import AuraEquiVAE
from aura_jax.model.layers import AttnBlock, GroupNorm, Upsample
from aura_jax.runtime.kernels.attention import fastest_attention
from aura_jax.runtime.kernels.group_norm import FusedGroupNorm
from aura_jax.runtime.kernels.upsample import FoldedUpsample
from aura_jax.runtime.kernels.winograd import WinogradConv

type Precision = Literal["highest", "fast"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision.__value__)

WINOGRAD_CHANNELS = 256  # with fewer channels the transforms cost more time than they save


def rewritten(vae: AuraEquiVAE, dtype: np.dtype, precision: Precision) -> AuraEquiVAE:
    """Copy a model, replacing layers with faster ones that compute the same function.

    Args:
        vae: the model, which is not changed.
        dtype: the dtype to compute in and to keep the kernels in.
        precision: "highest" makes only replacements that are exact but for the order of sums;
            "fast" also uses Winograd's convolutions in float32 on a CPU.

    Raises:
        AuraError: if the precision is unknown.
    """
    if precision not in PRECISIONS:
        raise AuraError(f"precision {precision!r}: expected one of {', '.join(PRECISIONS)}")
    copy = nnx.merge(*nnx.split(vae))
    return _rewrite(copy, dtype, precision)


def _rewrite(module: nnx.Module, dtype: np.dtype, precision: Precision) -> Any:
    """Return a module's replacement, or the module itself with its parts replaced."""
    replaced = _replacement(module, dtype, precision)
    if replaced is not None:
        return replaced
    for name, child in [*vars(module).items()]:
        if isinstance(child, nnx.List):
            for i, element in enumerate(child):
                child[i] = _rewrite(element, dtype, precision)
        elif isinstance(child, nnx.Module):
            setattr(module, name, _rewrite(child, dtype, precision))
    if isinstance(module, AttnBlock):
        module.attention = fastest_attention(dtype)
    return module


def _replacement(module: nnx.Module, dtype: np.dtype, precision: Precision) -> nnx.Module | None:
    match module:
        case GroupNorm():
            return FusedGroupNorm(module)
        case Upsample():
            return FoldedUpsample(module, dtype)
        case nnx.Conv() if precision == "fast" and _is_for_winograd(module, dtype):
            return WinogradConv(module)
        case nnx.Conv():
            module.dtype = dtype
            for name in ("kernel", "bias"):
                param = getattr(module, name)
                if param is not None:
                    setattr(module, name, nnx.Param(param[...].astype(dtype)))
            return module
    return None


def _is_for_winograd(conv: nnx.Conv, dtype: np.dtype) -> bool:
    """Return whether Winograd's convolution is faster: 3×3, stride 1, wide, float32 on a CPU.

    On a GPU "fast" means TF32, whose rounding Winograd's transforms would multiply.
    """
    on_cpu = dtype == jnp.float32 and jax.default_backend() == "cpu"
    plain = conv.kernel_size == (3, 3) and conv.strides in (1, (1, 1))
    return on_cpu and plain and min(conv.in_features, conv.out_features) >= WINOGRAD_CHANNELS

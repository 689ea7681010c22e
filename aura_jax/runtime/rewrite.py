"""Rewrite a trained model so that it computes the same function with less work."""

from typing import Any

import numpy as np
from flax import nnx

from aura_jax.config import AuraConfig
from aura_jax.model.autoencoder import AuraEquiVAE
from aura_jax.model.layers import AttnBlock, GroupNorm, Upsample
from aura_jax.runtime.plan import Plan


def rewritten(vae: AuraEquiVAE, dtype: np.dtype, plan: Plan) -> AuraEquiVAE:
    """Copy a model, replacing layers with faster ones that compute the same function.

    Args:
        vae: the model, which is not changed.
        dtype: the dtype to compute in and to keep the kernels in.
        plan: the replacements.
    """
    copy = nnx.merge(*nnx.split(vae))
    copy.encoder = _rewrite(copy.encoder, dtype, plan)
    copy.decoder = _rewrite(copy.decoder, dtype, plan.for_decoder())
    return copy


def abstract_rewritten(config: AuraConfig, dtype: np.dtype, plan: Plan) -> AuraEquiVAE:
    """Return the rewritten model of a config whose weights have shapes but no values."""

    def build() -> AuraEquiVAE:
        vae = AuraEquiVAE(config, dtype=dtype, param_dtype=dtype, rngs=nnx.Rngs(0))
        return rewritten(vae, dtype, plan)

    return nnx.eval_shape(build)


def _rewrite(module: nnx.Module, dtype: np.dtype, plan: Plan) -> Any:
    """Return a module's replacement, or the module itself with its parts replaced."""
    match module:
        case GroupNorm():
            return module if plan.norm is None else plan.norm(module)
        case Upsample() if plan.upsample is not None:
            return plan.upsample(module, dtype)
        case nnx.Conv():
            return plan.conv(module, dtype)
        case AttnBlock():
            module.attention = plan.attention
    for name, child in [*vars(module).items()]:
        if isinstance(child, nnx.List):
            for i, element in enumerate(child):
                child[i] = _rewrite(element, dtype, plan)
        elif isinstance(child, nnx.Module):
            setattr(module, name, _rewrite(child, dtype, plan))
    return module

"""Average the measures of photographs into one JSON document."""

import dataclasses
from typing import Any

import numpy as np

from aura_jax.documents import as_json, average
from aura_jax.equivariance.measures import FLIPS, SIGMAS, Measures
from aura_jax.equivariance.metrics import BORDER
from aura_jax.equivariance.sign_rule import recovered_rule

type Report = dict[str, Any]  # of JSON's types

DEFINITIONS = {
    "g": "a flip: h horizontal, v vertical, hv both; x is a photograph, z = encode(x)",
    "equivariant": "whether the model was averaged over the flips",
    "size": "sides of the centered squares of photographs, scaled by Pillow's LANCZOS",
    "signed": "g acts on latents by reversing the axis and negating the documented channels",
    "unsigned": "the control: g acts on latents by reversing the axis alone",
    "decoder": "decode(g·z) against g·decode(z)",
    "border": f"decoder, in the outermost {BORDER} pixels",
    "interior": "decoder, in the other pixels",
    "round_trip": "decode(g·z) against g·x",
    "encoder": "encode(g·x) against g·z: not trained by the published recipe",
    "reconstruction": "decode(z) against x",
    "psnr_db": "10·log10(4 / mean squared error) of images in [-1, 1], clamped, not rounded",
    "snr_db": "-20·log10(relative_l2) of latents",
    "relative_l2": "‖a - b‖ / ‖b‖",
    "noise": "psnr_db of decode(z') against x for each sigma; n ~ N(0, 1), the same for all",
    "multiplicative": "z' = z·(1 + σ·n)",
    "additive": "z' = z + σ·std(z)·n, with std over all values of a photograph's latent",
    "sign_rule": "signs on the diagonal of the correlation, 0 where it is under 0.1",
    "correlation": "row i, column j: channel i of encode(g·x) with channel j of the reversed z",
    "average": "means over photographs, of decibels too",
    "null": "infinity, where images or latents are equal",
}


def report(
    measures: dict[str, Measures],
    *,
    weights: str,
    size: int,
    seed: int,
    dtype: str,
    equivariant: bool = False,
) -> Report:
    """Average the measures of photographs into a JSON document.

    Args:
        measures: the measures of one or more photographs, by the photographs' names.
        weights: the checkpoint's name.
        size: side of the photographs in pixels.
        seed: seed of the noise.
        dtype: dtype in which the model computed.
        equivariant: whether the model was averaged over the flips.

    Returns:
        A dictionary of JSON's types, with numbers rounded to 6 digits and null for NaN and
        infinity. Its entry "definitions" explains the others.
    """
    trees = [dataclasses.asdict(measured) for measured in measures.values()]
    means = average(trees)
    correlations = means.pop("correlation")
    return as_json(
        {
            "weights": weights,
            "equivariant": equivariant,
            "size": size,
            "dtype": dtype,
            "seed": seed,
            "sigmas": SIGMAS,
            "definitions": DEFINITIONS,
            "average": means,
            "sign_rule": {name: _sign_rule(name, map_) for name, map_ in correlations.items()},
            "photos": [
                {"photo": name, **{k: v for k, v in tree.items() if k != "correlation"}}
                for name, tree in zip(measures, trees, strict=True)
            ],
        }
    )


def verdict(rule: dict[str, Any]) -> str:
    """Say whether the recovered signs are the documented ones, and where they differ."""
    pairs = enumerate(zip(rule["signs"], rule["documented"], strict=True))
    wrong = ", ".join(str(channel) for channel, (sign, expected) in pairs if sign != expected)
    if wrong:
        return f"not as documented in channels {wrong}"
    negated = ", ".join(str(channel) for channel, sign in enumerate(rule["signs"]) if sign < 0)
    return f"as documented, {negated} negate"


def _sign_rule(name: str, correlation: np.ndarray) -> dict[str, Any]:
    rule = recovered_rule(correlation, **FLIPS[name])
    return {**dataclasses.asdict(rule), "agrees": rule.agrees, "correlation": correlation}

"""How equivariant a model is, measured on photographs: the report of `aura-jax equivariance`.

Drawing it is in `aura_jax.equivariance.figure`, which needs matplotlib.
"""

from aura_jax.equivariance.measure import (
    FLIPS,
    SIGMAS,
    FlipErrors,
    Measures,
    Reconstruction,
    measure,
    noise_curves,
)
from aura_jax.equivariance.metrics import (
    Distance,
    LatentDistance,
    border_and_interior,
    image_distance,
    latent_distance,
)
from aura_jax.equivariance.report import Report, report
from aura_jax.equivariance.sign_rule import (
    SignRule,
    correlation_map,
    documented_signs,
    recovered_rule,
)

__all__ = [
    "FLIPS",
    "SIGMAS",
    "Distance",
    "FlipErrors",
    "LatentDistance",
    "Measures",
    "Reconstruction",
    "Report",
    "SignRule",
    "border_and_interior",
    "correlation_map",
    "documented_signs",
    "image_distance",
    "latent_distance",
    "measure",
    "noise_curves",
    "recovered_rule",
    "report",
]

"""Format the report of aura-jax equivariance as tables and lines for the terminal."""

from collections.abc import Iterator

from rich import box
from rich.table import Table

from aura_jax.equivariance.measures import FLIPS
from aura_jax.equivariance.metrics import BORDER
from aura_jax.equivariance.reports import Report, verdict

ROWS = {  # label: the measure and its unit
    "decoder": ("decoder", "psnr_db"),
    f"  outer {BORDER} pixels": ("border", "psnr_db"),
    "  interior": ("interior", "psnr_db"),
    "round trip": ("round_trip", "psnr_db"),
    "encoder": ("encoder", "snr_db"),
}


def tables(report: Report) -> tuple[Table, Table]:
    """Format one table of the errors of flips and their control, and one of noise, in decibels."""
    average = report["average"]
    flips = Table("dB", *FLIPS, *(f"unsigned\n{name}" for name in FLIPS), box=box.SIMPLE)
    for label, (measure, unit) in ROWS.items():
        entries = [average[action][name] for action in ("signed", "unsigned") for name in FLIPS]
        flips.add_row(label, *(decibels(entry[measure][unit]) for entry in entries))
    noise = Table("dB", *(f"σ {sigma:g}" for sigma in report["sigmas"]), box=box.SIMPLE)
    for kind, curve in average["noise"].items():
        noise.add_row(kind, *map(decibels, curve))
    return flips, noise


def lines(report: Report) -> Iterator[str]:
    """Format the reconstruction and the recovered signs as sentences."""
    quality = report["average"]["reconstruction"]
    yield f"reconstruction: {decibels(quality['psnr_db'])} dB, SSIM {quality['ssim']:.3f}"
    for name, rule in report["sign_rule"].items():
        yield f"signs under {name}: {verdict(rule)}"


def decibels(value: float | None) -> str:
    """Format decibels with two decimals; None, which is infinity in JSON, means no error."""
    return "∞" if value is None else f"{value:.2f}"

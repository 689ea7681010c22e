"""Format the report of aura-jax evaluate as tables for the terminal."""

import math
from collections.abc import Iterator

from rich import box
from rich.table import Table

from aura_jax.errors import printable
from aura_jax.evaluation.measures import Quality
from aura_jax.evaluation.reports import Report, labeled

MOST_ROWS = 40  # of the table of single images; reports of more are in the JSON document


def tables(report: Report) -> Iterator[Table]:
    """Format the averages, the size of latents and, if there are few images, each of them."""
    averages = [labeled(evaluation.average) for evaluation in report.evaluations]
    weights = [model.weights for model in report.models]
    means = _table("mean", report)
    for label in averages[0]:
        for name, qualities in zip(weights, averages, strict=True):
            means.add_row(label, name, *_cells(qualities[label]))
    yield means
    if len(report.pictures) * len(weights) <= MOST_ROWS:
        yield _images(report, weights)
    yield _storage(report, weights)


def _images(report: Report, weights: list[str]) -> Table:
    table = _table("image", report)
    for i, picture in enumerate(report.pictures):
        for name, evaluation in zip(weights, report.evaluations, strict=True):
            cells = _cells(evaluation.images[i].reconstruction)
            table.add_row(printable(picture.image), name, *cells)
    return table


def _storage(report: Report, weights: list[str]) -> Table:
    dtypes = report.evaluations[0].bits_per_pixel
    table = Table("bits per pixel of latents", *dtypes, box=box.SIMPLE)
    for name, evaluation in zip(weights, report.evaluations, strict=True):
        table.add_row(name, *(f"{bits:g}" for bits in evaluation.bits_per_pixel.values()))
    return table


def _table(first: str, report: Report) -> Table:
    table = Table(box=box.SIMPLE)
    for column in (first, "weights"):
        table.add_column(column, overflow="fold")  # the end of a path tells images apart
    columns = ("PSNR, dB", "SSIM", "LPIPS")
    for column in columns if report.has_lpips else columns[:2]:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _cells(quality: Quality) -> list[str]:
    decibels = f"{quality.psnr_db:.2f}" if math.isfinite(quality.psnr_db) else "∞"
    perceived = [] if quality.lpips is None else [f"{quality.lpips:.4f}"]
    return [decibels, f"{quality.ssim:.4f}", *perceived]

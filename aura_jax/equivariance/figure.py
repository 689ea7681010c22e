"""Draw a report as one figure. Only the command imports this module, which needs matplotlib."""

import textwrap
from collections.abc import Sequence
from functools import reduce
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from aura_jax.equivariance.measures import FLIPS
from aura_jax.equivariance.metrics import BORDER
from aura_jax.equivariance.reports import Report, verdict

SIZE, DPI = (17, 10), 100  # inches, pixels an inch
BLUE, GRAY, ORANGE = "#0072b2", "#b8b8b8", "#e69f00"  # told apart by color-blind eyes too
TRAINED_SIGMA = 0.1
BAR = 0.4  # width; flips are 1 apart
NAME_LENGTH = 80  # characters of the weights' name, which may be a long path

# The keys that lead to a number in the entry of a photograph or of the average.
type Place = tuple[str, ...]


class Series(NamedTuple):
    """Bars of one color: the report entry that they show, their offset, color and label."""

    entry: str
    offset: float
    color: str
    ink: str
    label: str


ACTIONS = (
    Series("signed", -BAR / 2, BLUE, "white", "with signs"),
    Series("unsigned", BAR / 2, GRAY, "black", "without signs (control)"),
)
PARTS = (
    Series("border", -BAR / 2, ORANGE, "black", f"outer {BORDER} pixels"),
    Series("interior", BAR / 2, BLUE, "white", "interior"),
)


def draw(report: Report) -> bytes:
    """Draw a report (of `aura_jax.equivariance.report`, or from its JSON file) as a PNG file."""
    figure = Figure(SIZE, DPI, layout="constrained")
    top, bottom = figure.subfigures(2, 1, squeeze=False, hspace=0.05)[:, 0]
    axes = top.subplots(1, 4, width_ratios=(2.2, 1.1, 1.1, 1.8))
    for panel, each in zip((_images, _parts, _encoder, _noise), axes, strict=True):
        panel(each, report)
    _signs(bottom, report)
    figure.suptitle(_title(report), parse_math=False, fontsize=14)
    canvas, png = FigureCanvasAgg(figure), BytesIO()
    canvas.print_png(png)
    return png.getvalue()


def _title(report: Report) -> str:
    count = len(report["photos"])
    name = report["weights"].encode(errors="replace").decode()  # fonts have no lone surrogates
    short = name if len(name) <= NAME_LENGTH else f"…{name[-NAME_LENGTH:]}"
    size = f"{report['size']} × {report['size']} pixels"
    photos = "one photograph" if count == 1 else f"{count} photographs (dots) and their mean (bars)"
    symbols = "x: photograph, z = encode(x), g: flip (h horizontal, v vertical, hv both)"
    return f"Flip equivariance of {short}\n{photos}, {size}, {report['dtype']}. {symbols}"


def _images(axes: Axes, report: Report) -> None:
    axes.set_title("Decoded from a flipped latent")
    measures = [(name, measure) for measure in ("decoder", "round_trip") for name in FLIPS]
    x = np.array([0, 1, 2, 3.5, 4.5, 5.5])
    for series in ACTIONS:
        places = [(series.entry, *measure, "psnr_db") for measure in measures]
        _bars(axes, report, x, places, series)
    reconstruction = _number(report["average"], ("reconstruction", "psnr_db"))
    axes.plot([3, 6], [reconstruction] * 2, "k--", lw=1, label="reconstruction, no flip")
    names = ("decoder\ndecode(g·z) against g·decode(z)", "round trip\ndecode(g·z) against g·x")
    axes.set_xticks(x, [tick for name in names for tick in ("h", f"v\n{name}", "hv")])
    _finish(axes, "PSNR, dB")


def _parts(axes: Axes, report: Report) -> None:
    axes.set_title("Decoder, at the border")
    for series in PARTS:
        places = [("signed", name, series.entry, "psnr_db") for name in FLIPS]
        _bars(axes, report, np.arange(3), places, series)
    _finish_flips(axes, "decode(g·z) against g·decode(z)", "PSNR, dB")


def _encoder(axes: Axes, report: Report) -> None:
    axes.set_title("Encoder\n(not trained by the published recipe)")
    for series in ACTIONS:
        places = [(series.entry, name, "encoder", "snr_db") for name in FLIPS]
        _bars(axes, report, np.arange(3), places, series)
    _finish_flips(axes, "encode(g·x) against g·z", "SNR, dB")


def _noise(axes: Axes, report: Report) -> None:
    axes.set_title("Reconstruction from a noisy latent\n(bands: lowest to highest photograph)")
    sigmas = report["sigmas"]
    labels = {"multiplicative": "z·(1 + σ·n)", "additive": "z + σ·std(z)·n"}
    for (kind, label), color in zip(labels.items(), (BLUE, ORANGE), strict=True):
        photos = np.array([photo["noise"][kind] for photo in report["photos"]], float)
        mean = np.array(report["average"]["noise"][kind], float)
        axes.plot(sigmas, mean, "o-", color=color, label=f"{kind}, {label}")
        axes.fill_between(
            sigmas, photos.min(axis=0), photos.max(axis=0), color=color, alpha=0.15, lw=0
        )
    axes.axvline(TRAINED_SIGMA, color="k", ls=":", label="published training (multiplicative)")
    axes.set_xscale("symlog", linthresh=sigmas[1], linscale=0.4)
    axes.set_xticks(sigmas, [f"{sigma:g}" for sigma in sigmas])
    axes.set_xticks([], minor=True)
    axes.set_xlim(-sigmas[1] / 5, 1.15 * sigmas[-1])
    axes.set_xlabel("σ")
    axes.set_ylabel("PSNR, dB")
    axes.legend(loc="lower left")


def _signs(figure: SubFigure, report: Report) -> None:
    title = "Signs that flips give to channels, read off the encoder"
    figure.suptitle(f"{title} (outlined: channels documented to negate)", fontsize=12)
    axes = figure.subplots(1, 4, width_ratios=(1, 1, 1, 1.3))
    rules = report["sign_rule"].items()
    *_, image = [_map(each, *rule) for each, rule in zip(axes, rules, strict=False)]
    figure.colorbar(image, ax=axes[:3], label="correlation", shrink=0.8)
    _diagonals(axes[3], report)


def _map(axes: Axes, name: str, rule: dict[str, Any]) -> AxesImage:
    axes.set_title(textwrap.fill(f"{name}: {verdict(rule)}", 46), fontsize=10)
    image = axes.imshow(np.array(rule["correlation"], float), vmin=-1, vmax=1, cmap="RdBu")
    for channel, sign in enumerate(rule["documented"]):
        if sign < 0:
            corner = (channel - 0.5, channel - 0.5)
            axes.add_patch(Rectangle(corner, 1, 1, fill=False, lw=1.5))
    channels = [str(channel) for channel in range(len(rule["signs"]))]
    axes.set_xticks(range(len(channels)), channels, fontsize=7)
    axes.set_yticks(range(len(channels)), channels, fontsize=7)
    axes.set_xlabel("channel of z, reversed")
    axes.set_ylabel("channel of encode(g·x)")
    return image


def _diagonals(axes: Axes, report: Report) -> None:
    axes.set_title("diagonals of the maps: channels below zero negate", fontsize=10)
    for offset, name, color in ((-BAR / 2, "h", BLUE), (BAR / 2, "v", ORANGE)):
        diagonal = np.diag(np.array(report["sign_rule"][name]["correlation"], float))
        axes.bar(np.arange(len(diagonal)) + offset, diagonal, BAR, color=color, label=name)
    axes.axhline(0, color="k", lw=0.8)
    axes.set_ylim(-1, 1)
    axes.set_xticks(range(len(diagonal)))
    axes.set_xlabel("channel")
    axes.set_ylabel("correlation")
    axes.legend()


def _bars(
    axes: Axes, report: Report, x: np.ndarray, places: Sequence[Place], series: Series
) -> None:
    """Draw averages as bars with their numbers, and photographs as dots."""
    means = np.array([_number(report["average"], place) for place in places])
    bars = axes.bar(x + series.offset, np.nan_to_num(means), BAR, color=series.color)
    bars.set_label(series.label)
    numbers = [f"{mean:.1f}" if np.isfinite(mean) else "∞" for mean in means]
    axes.bar_label(bars, numbers, label_type="center", fontsize=8, color=series.ink)
    for photo in report["photos"]:
        dots = [_number(photo, place) for place in places]
        axes.plot(x + series.offset, dots, "k.", ms=3, alpha=0.5)


def _finish_flips(axes: Axes, label: str, unit: str) -> None:
    """Label one group of bars for each flip."""
    axes.set_xticks(range(3), [*FLIPS])
    axes.set_xlabel(label)
    _finish(axes, unit)


def _finish(axes: Axes, unit: str) -> None:
    """Label the axis with its unit, and put the legend above the bars."""
    axes.set_ylabel(unit)
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.3 * (high - low))
    axes.legend(loc="upper left", fontsize=8)


def _number(tree: dict[str, Any], place: Place) -> float:
    value: Any = reduce(lambda branch, key: branch[key], place, tree)
    return np.nan if value is None else value

"""Draw the plot of `benchmarks.scaling` with matplotlib."""

from collections.abc import Mapping
from io import BytesIO

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.flops import PARTS, Part

SIZE, DPI = (10, 7), 100  # inches, pixels an inch

type Curves = Mapping[tuple[Part, int], Mapping[int, float]]  # by direction and batch, by size


def draw(title: str, seconds: Curves, megabytes: Curves) -> bytes:
    """Draw time and memory for each direction, a line for each batch size, as a PNG."""
    figure = Figure(SIZE, DPI, layout="constrained")
    for row, (curves, label) in zip(
        figure.subplots(2, len(PARTS), sharex=True, sharey="row"),
        ((seconds, "time, seconds per megapixel"), (megabytes, "memory, MB per megapixel")),
        strict=True,
    ):
        row[0].set_ylabel(label)
        for axes, part in zip(row, PARTS, strict=True):
            _lines(axes, {batch: curve for (p, batch), curve in curves.items() if p == part})
            axes.set_title(part)
            axes.set_xlabel("side of the image, pixels")
        row[0].set_ylim(bottom=0)  # shared, so only once all lines are drawn
    figure.suptitle(title)
    png = BytesIO()
    FigureCanvasAgg(figure).print_png(png)
    return png.getvalue()


def _lines(axes: Axes, curves: Mapping[int, Mapping[int, float]]) -> None:
    for batch, curve in curves.items():
        axes.plot([*curve], [*curve.values()], marker="o", label=f"batch {batch}")
    sizes = sorted({size for curve in curves.values() for size in curve})
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.legend()

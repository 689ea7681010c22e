"""Draw a report as one figure. Only the command imports this module, which needs matplotlib."""

from io import BytesIO
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure
from PIL import Image

from aura_jax.evaluation.folder import ORIGINAL
from aura_jax.evaluation.reports import Report, labeled

WIDTH, BARS, ROW, DPI = 15, 4.5, 3.2, 100  # inches: all, the bars, a row of images; pixels an inch
COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")  # also color-blind
SHOWN_MODELS = 3  # whose images are shown
NAME_LENGTH = 40  # characters of a name
ERROR_SCALE = 4
PANELS = {"psnr_db": "PSNR, dB (more is better)", "ssim": "SSIM (more is better)"}
PERCEPTUAL = {"lpips": "LPIPS (less is better)"}


def draw(report: Report, folder: Path) -> bytes:
    """Draw a report as a PNG file: the averages as bars, the pictures as dots, and examples.

    Args:
        report: the report.
        folder: the folder with its images.
    """
    examples = _examples(report)
    figure = Figure((WIDTH, BARS + ROW * len(examples)), DPI, layout="constrained")
    ratios = (BARS, ROW * len(examples))
    top, bottom = figure.subfigures(2, 1, squeeze=False, height_ratios=ratios, hspace=0.03)[:, 0]
    panels = PANELS | (PERCEPTUAL if report.has_lpips else {})
    for axes, (measure, title) in zip(top.subplots(1, len(panels)), panels.items(), strict=True):
        _bars(axes, report, measure)
        axes.set_title(title)
    _images(bottom, report, examples, folder)
    figure.suptitle(_title(report), parse_math=False, fontsize=14)
    canvas, png = FigureCanvasAgg(figure), BytesIO()
    canvas.print_png(png)
    return png.getvalue()


def _examples(report: Report) -> dict[str, int]:
    """Choose the pictures with the lowest, the median and the highest PSNR of the first model."""
    order = np.argsort([each.reconstruction.psnr_db for each in report.evaluations[0].images])
    places = {"worst": 0, "median": len(order) // 2, "best": len(order) - 1}
    chosen: dict[int, str] = {}
    for label, place in places.items():
        chosen.setdefault(int(order[place]), label)
    return {label: index for index, label in chosen.items()}


def _title(report: Report) -> str:
    count = len(report.pictures)
    images = "one image" if count == 1 else f"{count} images (dots) and their mean (bars)"
    size = f"{report.size} × {report.size} pixels"
    return f"Reconstructions of {images}, {size}, 8 bits, computed in {report.dtype}"


def _bars(axes: Axes, report: Report, measure: str) -> None:
    """Draw averages as bars, one color for each model, and pictures as dots."""
    width = 0.8 / len(report.models)
    labels = list(labeled(report.evaluations[0].average))
    x = np.arange(len(labels))
    for i, (model, evaluation) in enumerate(zip(report.models, report.evaluations, strict=True)):
        place = x + (i - (len(report.models) - 1) / 2) * width
        means = [getattr(quality, measure) for quality in labeled(evaluation.average).values()]
        bars = axes.bar(place, _finite(means), width, color=COLORS[i % len(COLORS)])
        bars.set_label(f" {_short(model.weights)}")  # legends omit names that begin with "_"
        texts = [f"{mean:.4g}" if np.isfinite(mean) else "∞" for mean in means]
        axes.bar_label(bars, texts, padding=4, fontsize=8, rotation=90)
        dots = np.array(
            [[getattr(q, measure) for q in labeled(s).values()] for s in evaluation.images], float
        )
        axes.plot(np.broadcast_to(place, dots.shape), dots, "k.", ms=3, alpha=0.4)
    axes.set_xticks(x, [label.replace(" ", "\n") for label in labels])
    axes.margins(y=0.2 + 0.1 * len(report.models))  # for the numbers and the legend
    for text in axes.legend(loc="upper left", fontsize=8).get_texts():
        text.set_parse_math(False)


def _images(figure: SubFigure, report: Report, examples: dict[str, int], folder: Path) -> None:
    """Draw originals beside their reconstructions and the errors of these."""
    models = list(zip(report.models, report.evaluations, strict=True))[:SHOWN_MODELS]
    grid = figure.subplots(len(examples), 1 + 2 * len(models), squeeze=False)
    for row, (label, index) in zip(grid, examples.items(), strict=True):
        picture = report.pictures[index]
        assert picture.png is not None, "a figure needs the images"
        original = _read(folder / ORIGINAL / picture.png)
        _show(row[0], original, f"{label}: {_short(Path(picture.image).name)}")
        for i, (model, evaluation) in enumerate(models):
            assert model.folder is not None, "a figure needs the images"
            image = _read(folder / model.folder / picture.png)
            decibels = evaluation.images[index].reconstruction.psnr_db
            _show(row[1 + 2 * i], image, f"{_short(model.weights)}\n{decibels:.2f} dB")
            error = np.abs(image.astype(int) - original) * ERROR_SCALE
            _show(row[2 + 2 * i], error.clip(0, 255).astype(np.uint8), f"error × {ERROR_SCALE}")


def _show(axes: Axes, image: np.ndarray, title: str) -> None:
    axes.imshow(image, interpolation="antialiased")
    axes.set_title(title, fontsize=9, parse_math=False)
    axes.set_axis_off()


def _read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def _finite(values: list[float]) -> np.ndarray:
    return np.nan_to_num(np.array(values, float), nan=0, posinf=0)


def _short(name: str) -> str:
    """Shorten a name, and replace bytes that are not UTF-8, which fonts do not have."""
    shown = name.encode(errors="replace").decode()
    return shown if len(shown) <= NAME_LENGTH else f"…{shown[-NAME_LENGTH:]}"

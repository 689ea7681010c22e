"""Draw a labeled grid of images: a row for each original, a column for each version of it."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from aura_jax.images.transforms import Pixels8

CELL = 512  # pixels; larger images are scaled down to fit, smaller ones keep their size
MARGIN = 8
LABEL = 22
BACKGROUND, INK = "white", "black"

type Row = Sequence[tuple[str, Pixels8]]


def grid(title: str, rows: Sequence[Row]) -> Pixels8:
    """Draw rows of labelled images under a title.

    Args:
        title: one line above the grid.
        rows: the cells of each row, (label, image [H, W, 3]); sizes may differ.
    """
    thumbnails = [[(label, _thumbnail(pixels)) for label, pixels in row] for row in rows]
    font = ImageFont.load_default(LABEL - 6)
    cells = [cell for row in thumbnails for cell in row]
    cell_width = max(max(image.width, round(font.getlength(label))) for label, image in cells)
    heights = [max(image.height for _, image in row) for row in thumbnails]
    width = MARGIN + max(len(row) for row in thumbnails) * (cell_width + MARGIN)
    width = max(width, 2 * MARGIN + round(font.getlength(title)))
    height = MARGIN + LABEL + sum(tall + LABEL + MARGIN for tall in heights)
    canvas = Image.new("RGB", (width, height), BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    draw.text((MARGIN, MARGIN), title, fill=INK, font=font)
    top = MARGIN + LABEL
    for row, tall in zip(thumbnails, heights, strict=True):
        for column, (label, image) in enumerate(row):
            left = MARGIN + column * (cell_width + MARGIN)
            draw.text((left, top), label, fill=INK, font=font)
            canvas.paste(image, (left, top + LABEL))
        top += tall + LABEL + MARGIN
    return np.asarray(canvas)


def _thumbnail(pixels: Pixels8) -> Image.Image:
    image = Image.fromarray(pixels)
    image.thumbnail((CELL, CELL), Image.Resampling.LANCZOS)
    return image

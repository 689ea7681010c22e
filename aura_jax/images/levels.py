"""Read image files with more than 8 bits a sample, or with a transparent color, as floats."""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageFile

from aura_jax.images.source import Source

type Colors = Float[np.ndarray, "_ _ _"]  # rows, columns, and 1 (gray), 3 (RGB) or 4 (CMYK)
type Alpha = Float[np.ndarray, "_ _ 1"]
type Load = Callable[[str], Image.Image]  # reads the file as if its samples had this raw mode

# Pillow keeps the first byte of a 16-bit sample in one of the raw modes ";16B" and ";16L", and the
# second in the other.
SWAPPED = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
# It has no swapped mode, but the four bytes of a pixel can be read as the four channels of RGBA.
GRAY_WITH_ALPHA = "LA;16B"


def raw_mode(image: ImageFile.ImageFile) -> str:
    """Return Pillow's name for the layout of samples in the file of an image, such as "RGB;16B"."""
    args: Any = image.tile[0].args if image.tile else ""
    return args if isinstance(args, str) else str(args[0])


def set_raw_mode(image: ImageFile.ImageFile, mode: str) -> None:
    """Make an image that is not loaded yet read its file as if samples had another layout."""
    image.tile = [
        tile._replace(args=mode if isinstance(tile.args, str) else (mode, *(tile.args or ())[1:]))
        for tile in image.tile
    ]


def needs_levels(image: ImageFile.ImageFile, source: Source) -> bool:
    """Return whether Pillow would lose bits of the samples, or misplace the transparent color."""
    return image.mode[0] == "I" or ";16" in raw_mode(image) or source.key is not None


def read_levels(
    image: ImageFile.ImageFile, source: Source, load: Load
) -> tuple[Colors, Alpha | None]:
    """Read colors and opacity in [0, 1], in the color space of the file.

    Args:
        image: the image, not loaded.
        source: its file.
        load: reads the file again.
    """
    samples, top = _samples(image, source, load)
    levels = samples.astype(np.float32) / np.float32(top)
    if source.key is not None:
        return levels, (samples != source.key).any(-1, keepdims=True).astype(np.float32)
    if source.inverted:
        return 1 - levels, None
    if image.mode == "CMYK" or levels.shape[-1] in (1, 3):
        return levels, None
    colors, alpha = levels[..., :-1], levels[..., -1:]
    if raw_mode(image).startswith("RGBa"):  # premultiplied
        colors = np.divide(colors, alpha, out=np.ones_like(colors), where=alpha > 0).clip(max=1)
    return colors, alpha


def _samples(image: ImageFile.ImageFile, source: Source, load: Load) -> tuple[np.ndarray, int]:
    """Return samples [H, W, C] and their highest level."""
    raw = raw_mode(image)
    if image.mode[0] == "I":
        return np.asarray(load(raw))[..., None], source.top
    if raw == GRAY_WITH_ALPHA:
        return np.asarray(load("RGBA")).view(">u2"), 65535
    if ";16" in raw:
        raw = raw.replace("RGBa", "RGBA")
        high, low = (np.asarray(load(each)) for each in (raw, raw[:-1] + SWAPPED[raw[-1]]))
        return high.astype(np.uint16) << 8 | low, 65535
    samples = np.asarray(load(raw).convert("RGB" if image.mode == "RGB" else "L"))
    return samples.reshape(*samples.shape[:2], -1), 255

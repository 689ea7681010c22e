"""The options of decoding image files, which commands list without importing Pillow."""

import dataclasses

MAX_PIXELS = 200_000_000  # more than any phone's camera


@dataclasses.dataclass(frozen=True)
class Decoding:
    """Options of decoding image files.

    Attributes:
        max_pixels: the largest number of pixels of an image; files with more are refused before
            they are decoded.
        raw_colors: whether to keep color values as they are stored, instead of converting them to
            sRGB by the ICC profile of the file.
    """

    max_pixels: int = MAX_PIXELS
    raw_colors: bool = False

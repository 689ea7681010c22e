"""Read the image files of a folder in batches."""

from collections.abc import Iterable, Iterator
from itertools import batched
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from aura_jax.errors import ImageError
from aura_jax.images.options import Decoding
from aura_jax.images.readers import ImageFile, find_images
from aura_jax.images.transforms import Pixels, is_natural, square_pixels


def read_batches(
    places: str | Path | Iterable[str | Path],
    batch_size: int,
    size: int | None = None,
    decoding: Decoding = Decoding(),
) -> Iterator[tuple[Float[np.ndarray, "b h w 3"], tuple[str, ...]]]:
    """Yield the images of folders, tars and files in batches, with their names.

        for images, names in aura_jax.images.read_batches("photos/", 8, size=256):
            latents = codec.encode(images)

    Args:
        places: a folder, tar or image file, or several.
        batch_size: the number of images in each batch; the last may have fewer.
        size: the side in pixels to which the largest centered square of each image is scaled; None
            keeps images unchanged, and all of a batch must then have the same size.
        decoding: how image files are decoded.

    Yields:
        Floats [B, H, W, 3] in [-1, 1], and the path of each image, in the order of `find_images`.

    Raises:
        ImageError: if there are no images, one cannot be read, sizes in a batch differ, or an
            argument is of the wrong type.
    """
    if not is_natural(batch_size):
        raise ImageError(f"batches of {batch_size!r} images: expected a number, 1 or more")
    several = as_paths(places)
    if not several:
        raise ImageError("no images: an empty list of folders, tars and image files")
    for files in batched(find_images(several), batch_size):
        pixels = [_read(file, size, decoding) for file in files]
        for file, each in zip(files, pixels, strict=True):
            if each.shape != pixels[0].shape:
                sizes = (f"{a.shape[1]} x {a.shape[0]}" for a in (each, pixels[0]))
                raise ImageError(f"{file}: {' in a batch of '.join(sizes)}; give size=")
        yield np.stack(pixels), tuple(map(str, files))


def as_paths(places: str | Path | Iterable[str | Path]) -> list[Path]:
    """Return one place or several as paths.

    Raises:
        ImageError: if one is not a path, or an empty string, which would be the working directory.
    """
    several: list[Any] = [places]
    if isinstance(places, Iterable) and not isinstance(places, str | Path):
        several = [*places]
    for each in several:
        if not isinstance(each, str | Path) or each == "":
            raise ImageError(f"{each!r}: expected the path of a folder, tar or image file")
    return [*map(Path, several)]


def _read(file: ImageFile, size: int | None, decoding: Decoding) -> Pixels:
    pixels = file.pixels(decoding)
    return pixels if size is None else square_pixels(pixels, size)

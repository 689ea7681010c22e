"""Convert between Pillow images and arrays, and draw latents."""

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float
from PIL import Image

from aura_jax.arrays import AnyArray, check_array
from aura_jax.errors import ImageError
from aura_jax.images.decode import upright_rgb
from aura_jax.images.transforms import Pixels8, square, to_float, to_uint8

CELL = 8  # pixels of a picture for each pixel of a latent, whose image is as large
DEVIATIONS = 3.0  # of a principal component, from black to white


def from_pil(
    images: Image.Image | Sequence[Image.Image], size: int | None = None
) -> Float[np.ndarray, "b h w 3"]:
    """Convert Pillow images to floats [B, H, W, 3] in [-1, 1], as `aura_jax.encode` takes them.

    They are treated like image files: turned upright, converted to sRGB by their ICC profile, and
    blended with white where they are transparent.

    Args:
        images: one image, or a sequence of images.
        size: the side in pixels to which the largest centered square of each image is scaled; None
            keeps images unchanged, which must then all have the same size.

    Raises:
        ImageError: if there are none, one is not a Pillow image, is empty or has values whose range
            is not known, sizes differ, or `size` is not a whole number above 0.
    """
    if not isinstance(images, Image.Image | Iterable):
        raise ImageError(f"images: expected Pillow images, got {type(images).__name__}")
    several = [images] if isinstance(images, Image.Image) else [*images]
    arrays = [_pixels(i, image, size) for i, image in enumerate(several)]
    sizes = list(dict.fromkeys(f"{a.shape[1]} x {a.shape[0]}" for a in arrays))
    if len(sizes) != 1:
        found = f"of sizes {', '.join(sizes[:5])}; give size=" if sizes else "in an empty sequence"
        raise ImageError(f"images {found}: a batch needs images of one size")
    return to_float(np.stack(arrays))


def to_pil(images: AnyArray) -> list[Image.Image]:
    """Convert images [B, H, W, 3] or [H, W, 3], floats in [-1, 1] or uint8, to Pillow images.

    Floats are clamped and rounded to the nearest of 256 levels.

    Raises:
        ArrayError: if the shape or dtype is wrong.
        ImageError: if values are NaN or infinite.
    """
    array = np.asarray(images)
    batch = array[None] if array.ndim == 3 else array
    if batch.dtype != np.uint8:
        check_array("images", batch, 3)
        if not np.isfinite(batch).all():
            raise ImageError("images have NaN or infinite values, which no picture can show")
        batch = to_uint8(batch)
    check_array("images", batch, 3, dtypes=(np.dtype(np.uint8),))
    return [Image.fromarray(each) for each in batch]


def latents_to_pil(latents: AnyArray) -> list[Image.Image]:
    """Draw latents [B, h, w, C] or [h, w, C] in the colors of their three principal components.

    Each latent has its own components, and their signs follow from the skewness of the values. So
    the picture of a flipped latent is the flipped picture: the sign flips of channels change
    both the components and the values. Gray is a component's mean, and 0 and 255 are three standard
    deviations of the first component away.

    Returns:
        A picture of [8h, 8w] pixels for each latent.

    Raises:
        ArrayError: if the shape or dtype is wrong.
        ImageError: if values are NaN or infinite.
    """
    array = np.asarray(latents)
    batch = (array[None] if array.ndim == 3 else array).astype(np.float64)
    channels = batch.shape[-1] if batch.ndim else 1
    check_array("latents", batch, channels, dtypes=(np.dtype(np.float64),))
    if not np.isfinite(batch).all():
        raise ImageError("latents have NaN or infinite values, which no picture can show")
    return [_components(z) for z in batch]


def _pixels(index: int, image: Image.Image, size: int | None) -> Pixels8:
    if not isinstance(image, Image.Image):
        kind = type(image).__name__
        raise ImageError(f"image {index}: expected a Pillow image, got {kind}; use PIL.Image.open")
    try:
        rgb = upright_rgb(image)
    except (OSError, ValueError) as error:
        raise ImageError(f"image {index}: {error}") from None
    if 0 in rgb.size:
        raise ImageError(f"image {index}: {rgb.width} x {rgb.height}, without a pixel")
    return np.asarray(rgb) if size is None else square(rgb, size)


def _components(z: Float[np.ndarray, "h w c"]) -> Image.Image:
    values = z.reshape(-1, z.shape[-1]) - z.mean((0, 1))
    _, _, axes = np.linalg.svd(values, full_matrices=False)
    shown = values @ axes[:3].T
    shown *= np.where((shown**3).sum(0) < 0, -1, 1)
    scale = DEVIATIONS * shown[:, 0].std() if shown.size else 1.0
    colors = np.zeros((len(values), 3))
    colors[:, : shown.shape[1]] = shown / (scale or 1.0)
    picture = Image.fromarray(to_uint8(colors.reshape(*z.shape[:2], 3)))
    return picture.resize((CELL * picture.width, CELL * picture.height), Image.Resampling.NEAREST)

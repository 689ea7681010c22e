"""Convert the colors of image files to sRGB by their ICC profiles."""

from functools import lru_cache
from io import BytesIO
from typing import cast

import numpy as np
from PIL import Image, ImageCms

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
LEVELS = Image.frombytes("L", (256, 1), bytes(range(256)))
MODES = {"GRAY": "L", "RGB": "RGB", "CMYK": "CMYK"}  # color space of a profile: Pillow's mode
# In levels of 255: profiles of sRGB itself differ by that much, from each other and from lcms's.
SAME = 2


class ProfileError(ValueError):
    """A profile cannot be applied to an image; the message completes "its profile is"."""


def to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """Convert an image to sRGB with the relative colorimetric intent, which keeps white.

    Args:
        image: of mode L, LA, RGB, RGBA or CMYK.
        profile: its ICC profile.

    Returns:
        An image of mode RGB or RGBA; the given image if the profile is sRGB's.

    Raises:
        ProfileError: if the profile is broken, or is for images of another mode.
    """
    try:
        space, transform = _transform(profile)
    except (OSError, ValueError, ImageCms.PyCMSError):
        raise ProfileError("broken") from None
    mode = MODES.get(space, "")
    if (image.mode == "CMYK") != (mode == "CMYK") or (
        mode == "L" and image.mode not in ("L", "LA")
    ):
        raise ProfileError(f"for {space} images, not for {image.mode}")
    if transform is None:
        return image
    colors = _applied(transform, image.convert(mode))
    if image.mode in ("LA", "RGBA"):
        colors.putalpha(image.getchannel("A"))
    return colors


def _applied(transform: ImageCms.ImageCmsTransform, image: Image.Image) -> Image.Image:
    if image.mode == "L":  # by level, since a gray transform without a coarse table is slow
        levels = cast("Image.Image", transform.apply(LEVELS))
        return Image.merge("RGB", [image.point([*band.tobytes()]) for band in levels.split()])
    return cast("Image.Image", transform.apply(image))


@lru_cache(maxsize=16)
def _transform(profile: bytes) -> tuple[str, ImageCms.ImageCmsTransform | None]:
    """Return a profile's color space and its transform to sRGB; None if that changes no color.

    Threads may share a transform: lcms changes nothing in it.
    """
    source = ImageCms.ImageCmsProfile(BytesIO(profile))
    space: str = source.profile.xcolor_space.strip()  # pyright: ignore[reportAttributeAccessIssue]
    if space not in MODES:
        raise ValueError(space)
    transform = ImageCms.buildTransform(
        source,
        SRGB,
        MODES[space],
        "RGB",
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        # lcms 2.19 optimizes gray to so coarse a table that dark levels are off by 10.
        flags=ImageCms.Flags.NOOPTIMIZE if space == "GRAY" else ImageCms.Flags.NONE,
    )
    return space, None if space != "CMYK" and _keeps(transform, MODES[space]) else transform


def _keeps(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Return whether a transform changes no color of a lattice by more than SAME levels."""
    steps = np.arange(0, 256, 15, dtype=np.uint8)
    lattice = steps[:, None] if mode == "L" else np.stack(np.meshgrid(*[steps] * 3), -1)
    colors = Image.fromarray(lattice.reshape(len(steps), -1, *lattice.shape[3:]))
    after = np.asarray(transform.apply(colors)).astype(int)
    return bool(np.abs(after - np.asarray(colors.convert("RGB"))).max() <= SAME)

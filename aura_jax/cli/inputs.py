"""Find the image files that a command is given, and skip those that it cannot process."""

import os
from collections import Counter
from collections.abc import Callable, Sequence, Sized
from contextlib import suppress
from pathlib import Path
from unicodedata import category

from aura_jax.console import progress, warn
from aura_jax.errors import ArrayError, AuraError, ImageError, printable
from aura_jax.files import LONGEST_NAME, check_apart
from aura_jax.images.left_out import summary, without_ending
from aura_jax.images.options import Decoding
from aura_jax.images.readers import ImageFile, list_images
from aura_jax.images.transforms import Pixels, crop

UNFIT = ("Cc", "Cs")  # in names of tensors: control characters, and bytes that are not UTF-8


def find(places: list[Path], out: Path | None) -> list[ImageFile]:
    """Find image files as `find_images` does, and print how many other files were left out.

    Args:
        places: files, folders and tars.
        out: the output file or folder, if there is one.

    Raises:
        ImageError: if a place does not exist, holds no images, is given twice or lies within
            another one.
        AuraError: if the output file is one of the images, since it would be replaced; or one of
            the images lies in the output folder.
    """
    left_out: Counter[str] = Counter()
    files = list_images(places, left_out)
    if left_out:
        warn(summary(left_out))
    check_apart(places, ImageError)
    if out is not None:
        _check_apart(out.resolve(), files)
    return files


def latent_names(files: Sequence[ImageFile]) -> dict[ImageFile, str]:
    """Name each image's latent after its file, without the ending.

    Raises:
        AuraError: if two files have the same name, a tensor cannot have a file's name, or `decode`
            could not write a file NAME.png.
    """
    advice = "latents in one file need different names; rename them, or encode them to separate"
    names = unique_names(files, f"{advice} files")
    for name in names.values():
        if name == "__metadata__" or any(category(c) in UNFIT for c in name):
            raise AuraError(f"image named {name!r}: rename it, a tensor cannot have this name")
    return names


def unique_names(files: Sequence[ImageFile], advice: str) -> dict[ImageFile, str]:
    """Name each image after its file, without the ending, for files NAME.png.

    Args:
        files: the image files.
        advice: the reason why names must differ and what to do, for the message.

    Raises:
        AuraError: if two files have the same name, or NAME.png would be too long.
    """
    names = [without_ending(file.name) for file in files]
    for name, count in Counter(names).items():
        if count > 1:
            raise AuraError(f"{count} images are named {name!r}, but {advice}")
        if len(os.fsencode(f"{name}.png")) > LONGEST_NAME:
            raise AuraError(f"image named {name!r}: rename it, {name!r}.png would be too long")
    return dict(zip(files, names, strict=True))


def pixels(file: ImageFile, decoding: Decoding) -> Pixels:
    """Decode an image file, and print a note if its color profile is ignored."""
    return file.pixels(decoding, lambda line: warn(f"note: {line}"))


def sizes(
    files: Sequence[ImageFile], decoding: Decoding, size: int | None
) -> list[tuple[int, int]]:
    """Read the heights and widths of images from their files' headers, to compile few programs.

    Args:
        files: the image files; those that cannot be read are left to `each`.
        decoding: the options.
        size: the option --size, which gives all images one size.

    Returns:
        The sizes of all images that can be read; an empty list if there can be only one size.
    """
    if size is not None or len(files) == 1:
        return []
    found = []
    with progress() as bar:
        for file in bar.track(files, description="sizes"):
            with suppress(ImageError):
                found.append(file.image_size(decoding))
    return [each for each in found if each is not None]


def cut(pixels: Pixels, size: int | None, offset: int | None) -> Pixels:
    """Apply the options --size and --crop."""
    return pixels if size is None else crop(pixels, size, offset)


def each[Item, Result](
    items: Sequence[Item], process: Callable[[Item], Result], description: str = "images"
) -> list[tuple[Item, Result]]:
    """Process image files or latents one by one, and print which are skipped and why.

    Args:
        items: the image files, or the names of latents.
        process: a function of one of them; if it raises ImageError or ArrayError, for example
            because the image is too large for the memory, that one is skipped.
        description: the label of the progress bar.

    Returns:
        The items that were not skipped, each with its result.

    Raises:
        ImageError: if all were skipped.
    """
    results = []
    with progress() as bar:
        for item in bar.track(items, description=description):
            try:
                results.append((item, process(item)))
            except (ArrayError, ImageError) as error:
                reason = str(error).removeprefix(f"{item}: ")
                warn(f"skipped: {printable(str(item), longest=1000)}: {reason}")
    if not results:
        raise ImageError("every image was skipped, so nothing was written")
    return results


def check_complete(files: Sized, done: Sized, outcome: str = "written") -> None:
    """Raise an error if images were skipped, to be called after the results are written.

    Args:
        files: the images that were given.
        done: those that were not skipped.
        outcome: what happened to these, for the message.

    Raises:
        ImageError: if `done` has fewer elements than `files`.
    """
    if skipped := len(files) - len(done):
        raise ImageError(f"{skipped} of {len(files)} images skipped; the others are {outcome}")


def _check_apart(out: Path, files: Sequence[ImageFile]) -> None:
    """Check that the output replaces no image."""
    for file in files:
        path = file.path.resolve()
        if path == out:
            raise AuraError(f"{out}: is among the images; write to another place")
        if path.is_relative_to(out):
            raise AuraError(f"{file}: lies in the output folder {out}; write to another place")

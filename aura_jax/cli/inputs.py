"""Find the image files that a command is given, read them one by one, and skip unreadable ones."""

from collections import Counter
from collections.abc import Callable, Sequence, Sized
from pathlib import Path, PurePath

from aura_jax.console import messages, progress
from aura_jax.errors import AuraError, ImageError
from aura_jax.images.readers import ImageFile, find_images
from aura_jax.images.transforms import Pixels, crop


def find(places: list[Path], out: Path) -> list[ImageFile]:
    """Find image files as `find_images` does.

    Raises:
        ImageError: if a place does not exist or holds no images.
        AuraError: if the output file is one of the images, since it would be replaced.
    """
    files = find_images(places)
    if out.resolve() in [file.path.resolve() for file in files]:
        raise AuraError(f"{out}: is among the images; write to another place")
    return files


def latent_names(files: Sequence[ImageFile]) -> dict[ImageFile, str]:
    """Name each image's latent after its file, without the ending.

    Raises:
        AuraError: if two files have the same name, or a tensor cannot have a file's name.
    """
    names = [PurePath(file.name).stem for file in files]
    for name, count in Counter(names).items():
        if count > 1:
            raise AuraError(
                f"{count} images are named {name!r}, but latents in one file need different names; "
                "rename them, or encode them to separate files"
            )
        if name == "__metadata__" or not name.isprintable():
            raise AuraError(f"image named {name!r}: rename it, a tensor cannot have this name")
    return dict(zip(files, names, strict=True))


def cut(pixels: Pixels, size: int | None, offset: int | None) -> Pixels:
    """Apply the options --size and --crop."""
    return pixels if size is None else crop(pixels, size, offset)


def each[Result](
    files: Sequence[ImageFile], process: Callable[[Pixels], Result]
) -> list[tuple[ImageFile, Result]]:
    """Read and process images one by one, and print which are skipped and why.

    Args:
        files: the image files.
        process: a function of the pixels [H, W, 3] in [-1, 1]; if it raises ImageError, the image
            is skipped too.

    Returns:
        The image files that were not skipped, each with its result.

    Raises:
        ImageError: if all were skipped.
    """
    results = []
    with progress() as bar:
        for file in bar.track(files, description="images"):
            try:
                results.append((file, _processed(file, process)))
            except ImageError as error:
                messages.print(f"skipped: {error}", soft_wrap=True)
    if not results:
        raise ImageError("every image was skipped, so nothing was written")
    return results


def check_complete(files: Sized, done: Sized) -> None:
    """Raise an error if images were skipped, to be called after the results are written.

    Raises:
        ImageError: if `done` has fewer elements than `files`.
    """
    if skipped := len(files) - len(done):
        raise ImageError(f"{skipped} of {len(files)} images skipped; the others are written")


def _processed[Result](file: ImageFile, process: Callable[[Pixels], Result]) -> Result:
    pixels = file.pixels()
    try:
        return process(pixels)
    except ImageError as error:
        raise ImageError(f"{file}: {error}") from None

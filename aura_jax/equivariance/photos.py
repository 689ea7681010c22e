"""The photographs of a report: found in files and folders, cut to equal squares."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from aura_jax.console import progress
from aura_jax.errors import ImageError
from aura_jax.files import visible_files
from aura_jax.images.io import Pixels, is_picture_name, read_photo, square_photo


def find_photos(places: Iterable[Path]) -> list[Path]:
    """The files among `places`, and every picture in its folders or below them, sorted.

    Of a folder, hidden files are left out, and so are files that do not end as pictures do.

    Raises:
        ImageError: if a place does not exist or is a folder without pictures.
    """
    return [path for place in places for path in _photos_of(place)]


def read_squares(paths: Sequence[Path], size: int) -> dict[str, Pixels]:
    """Reads photographs as squares of `size` pixels, by their paths; see `square_photo`.

    Raises:
        ImageError: if some cannot be read; it names each of them.
    """
    squares, problems = {}, []
    with progress() as bar:
        for path in bar.track(paths, description="read"):
            try:
                squares[str(path)] = square_photo(read_photo(path), size)
            except ImageError as error:
                problems.append(str(error))
    if problems:
        raise ImageError("\n".join(problems))
    return squares


def _photos_of(place: Path) -> list[Path]:
    if not place.is_dir():
        if not place.exists():
            raise ImageError(f"{place}: no such file or folder")
        return [place]
    photos = [path for path in visible_files(place) if is_picture_name(path)]
    if not photos:
        raise ImageError(f"{place}: no pictures in this folder or below it")
    return photos

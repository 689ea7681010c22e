"""The photographs of a report, cut to equal squares."""

from collections.abc import Sequence

from aura_jax.console import progress
from aura_jax.errors import ImageError
from aura_jax.images.io import decode_image
from aura_jax.images.readers import ImageFile
from aura_jax.images.transforms import Pixels, square_pixels


def read_squares(files: Sequence[ImageFile], size: int) -> dict[str, Pixels]:
    """Read photographs as squares of `size` pixels, by their names; see `square_pixels`.

    Raises:
        ImageError: if some cannot be read; it names each of them.
    """
    squares, problems = {}, []
    with progress() as bar:
        for file in bar.track(files, description="read"):
            try:
                squares[str(file)] = square_pixels(decode_image(file.read(), str(file)), size)
            except ImageError as error:
                problems.append(str(error))
            except OSError as error:
                problems.append(f"{file}: {error.strerror}")
    if problems:
        raise ImageError("\n".join(problems))
    return squares

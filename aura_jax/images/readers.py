"""Pictures of a data set: files of a folder, and members of WebDataset tars."""

import dataclasses
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from aura_jax.errors import ImageError
from aura_jax.files import visible_files
from aura_jax.images.io import is_picture_name


@dataclasses.dataclass(frozen=True)
class Photo:
    """Where the bytes of a picture lie.

    Attributes:
        path: the file, or the tar that holds it.
        member: its name in the tar.
        offset: where its bytes start in the tar.
        size: how many bytes of the tar are its.
    """

    path: Path
    member: str | None = None
    offset: int = 0
    size: int = -1

    def __str__(self) -> str:
        return str(self.path) if self.member is None else f"{self.path}:{self.member}"

    def read(self) -> bytes:
        """The picture's bytes."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.size)


def find_photos(data: Path) -> list[Photo]:
    """Every picture in a folder or below it, and in the tars there; or in one tar.

    Args:
        data: the folder or tar. Hidden files are left out.

    Returns:
        The pictures sorted by name, so that every process sees them in the same order.

    Raises:
        ImageError: if there is no such folder or tar, a tar cannot be read, or there are no
            pictures.
    """
    if not data.exists():
        raise ImageError(f"{data}: no such folder or tar")
    files = visible_files(data) if data.is_dir() else [data]
    photos = [photo for path in files for photo in _photos_of(path)]
    if not photos:
        raise ImageError(f"{data}: no pictures found, in it or below it or in tars there")
    return photos


def members(path: Path) -> Iterator[tuple[str, Photo]]:
    """Every file in a tar but hidden ones: its name there, and where its bytes lie.

    Raises:
        ImageError: if the tar cannot be read to its end, or a picture in it is a link.
    """
    try:
        with tarfile.open(path, "r:") as tar:  # uncompressed, so that members can be sought
            for member in tar:
                name = PurePosixPath(member.name).name
                if (member.islnk() or member.issym()) and is_picture_name(Path(name)):
                    raise ImageError(f"{path}:{member.name}: a link; pack the picture itself")
                if member.isfile() and not name.startswith("."):
                    yield member.name, Photo(path, member.name, member.offset_data, member.size)
            _check_end(path, tar.offset)
    except (tarfile.TarError, OSError) as error:
        raise ImageError(f"{path}: not a tar that can be read ({error})") from None


def _check_end(path: Path, offset: int) -> None:
    """Python's reader takes a header that it cannot read for the end, unless it is the first."""
    with path.open("rb") as file:
        file.seek(offset)
        if file.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
            raise ImageError(f"{path}: truncated or damaged at byte {offset}, where its end is not")


def is_tar(path: Path) -> bool:
    """Whether a path ends as tars do."""
    return path.suffix == ".tar"


def _photos_of(path: Path) -> Iterator[Photo]:
    if is_tar(path):
        yield from (photo for name, photo in members(path) if is_picture_name(Path(name)))
    elif is_picture_name(path):
        yield Photo(path)

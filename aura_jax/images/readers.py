"""Find image files in folders and WebDataset tars."""

import dataclasses
import stat
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath

from aura_jax.errors import ImageError, counted, first_of
from aura_jax.images.decode import Note
from aura_jax.images.decoding import Decoding
from aura_jax.images.io import decode_image, is_image_name
from aura_jax.images.transforms import Pixels

MAX_BYTES = 2**30  # of an image file: far above any photograph, and it fits in memory


@dataclasses.dataclass(frozen=True)
class ImageFile:
    """The location of an image file: a separate file, or a member of a tar.

    Attributes:
        path: the file, or the tar that holds it.
        member: its name in the tar.
        offset: where its bytes start in the tar.
        size: how many bytes of the tar belong to it.
    """

    path: Path
    member: str | None = None
    offset: int = 0
    size: int = -1

    def __str__(self) -> str:
        return str(self.path) if self.member is None else f"{self.path}:{self.member}"

    @property
    def name(self) -> str:
        """The file's own name, without the folders above it."""
        return self.path.name if self.member is None else PurePosixPath(self.member).name

    def read(self) -> bytes:
        """Read the file's bytes.

        Raises:
            ImageError: if it is a device, a socket or a link to a pipe, or has over 1 GiB.
            OSError: if the file, or the tar, cannot be read.
        """
        status = self.path.stat()  # of a link's target
        self._check_kind(status.st_mode)
        length = status.st_size if self.size < 0 else self.size
        with self.path.open("rb") as file:
            if self.offset:  # only in a tar: a separate file may be a pipe, which cannot seek
                file.seek(self.offset)
            if length <= MAX_BYTES:
                data = file.read(MAX_BYTES + 1 if self.size < 0 else self.size)
                if len(data) <= MAX_BYTES:
                    return data
        raise ImageError(f"{self}: over {MAX_BYTES:,} bytes, the limit for an image file")

    def _check_kind(self, mode: int) -> None:
        """Refuse files that may never end.

        A pipe is read if it is given as a place; in folders, only links can lead to one.
        """
        given = not self.path.is_symlink() or self.path.is_relative_to("/dev")  # as /dev/fd/63
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or (stat.S_ISFIFO(mode) and given)):
            raise ImageError(f"{self}: not a file but a device, a socket or a link to a pipe")

    def pixels(self, decoding: Decoding = Decoding(), note: Note | None = None) -> Pixels:
        """Read and decode the image: [H, W, 3] float32 in [-1, 1], see `decode_image`.

        Args:
            decoding: the options.
            note: called with a sentence if the ICC profile is broken and therefore ignored.

        Raises:
            ImageError: if the file cannot be read or decoded; it names the file.
        """
        try:
            data = self.read()
        except OSError as error:
            raise ImageError(f"{self}: {error.strerror}") from None
        return decode_image(data, str(self), decoding, note)


def find_images(places: Iterable[Path]) -> list[ImageFile]:
    """Find image files among files, folders and tars.

    Args:
        places: files, which may have any name; tars; and folders, which are searched at any depth
            for files that end like images or tars. Hidden files and folders are skipped.

    Returns:
        The image files in the order of `places`, each folder's sorted by name, so that every
        process sees them in the same order.

    Raises:
        ImageError: if a place does not exist or holds no images, or a tar cannot be read.
    """
    return [image for place in places for image in _images_of(place)]


def find_files(place: Path) -> list[Path]:
    """List the image files and tars of a folder, sorted; or a file itself, whatever its name.

    A folder is searched at any depth, without hidden files and folders. Symbolic links to folders
    are followed, but no folder is visited twice. Broken links are listed too, so that reading them
    raises an error.

    Raises:
        ImageError: if the place does not exist, or the folder holds no such file.
        OSError: if a folder cannot be read; its files must not be missing silently.
    """
    if not place.exists():
        raise ImageError(f"{place}: no such file or folder")
    if not place.is_dir():
        return [place]
    found, seen = [], {place.resolve()}
    for parent, folders, names in place.walk(on_error=_give_up, follow_symlinks=True):
        places = {name: (parent / name).resolve() for name in sorted(folders) if name[0] != "."}
        folders.clear()
        for name, target in places.items():
            if target not in seen:
                seen.add(target)
                folders.append(name)
        found += [parent / name for name in names if name[0] != "."]
    wanted = [path for path in found if is_tar(path) or is_image_name(path)]
    return _some(place, sorted(path for path in wanted if path.is_file() or path.is_symlink()))


def members(path: Path) -> Iterator[tuple[str, ImageFile]]:
    """List the names and places of the files in a tar, without hidden files.

    Raises:
        ImageError: if the tar is truncated or corrupt, or an image in it is a link.
    """
    try:
        with tarfile.open(path, "r:") as tar:  # uncompressed, to seek in it
            for member in tar:
                name = PurePosixPath(member.name).name
                if (member.islnk() or member.issym()) and is_image_name(Path(name)):
                    raise ImageError(f"{path}:{member.name}: a link; pack the image file itself")
                if member.isfile() and not name.startswith("."):
                    file = ImageFile(path, member.name, member.offset_data, member.size)
                    yield member.name, file
            _check_end(path, tar.offset)
    except (tarfile.TarError, OSError) as error:
        raise ImageError(f"{path}: not a tar that can be read ({error})") from None


def is_tar(path: Path) -> bool:
    """Return whether a path ends in .tar."""
    return path.suffix == ".tar"


def check_skipped(skipped: Mapping[str, str], limit: int, advice: str) -> None:
    """Stop work that has skipped too many image files.

    Args:
        skipped: the reason for each skipped image, by its name.
        limit: the number of images that may be skipped.
        advice: an explanation of the limit, or the option that raises it, for the message.

    Raises:
        ImageError: if more than `limit` are skipped, with the first ten reasons.
    """
    if len(skipped) > limit:
        skips = f"{counted(len(skipped), 'image')} skipped, over the limit of {limit} ({advice})"
        reasons = (f"{name}: {reason}" for name, reason in skipped.items())
        raise ImageError(f"{skips}; {first_of(reasons)}")


def _images_of(place: Path) -> list[ImageFile]:
    images = []
    for path in find_files(place):
        if is_tar(path):
            images += [file for name, file in members(path) if is_image_name(Path(name))]
        else:
            images.append(ImageFile(path))
    return _some(place, images)


def _some[T](place: Path, found: list[T]) -> list[T]:
    if not found:
        raise ImageError(f"{place}: no images found, in it or below it or in tars there")
    return found


def _check_end(path: Path, offset: int) -> None:
    """Check for the end marker: tarfile takes a damaged header after the first for the end."""
    with path.open("rb") as file:
        file.seek(offset)
        if file.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
            raise ImageError(
                f"{path}: truncated or corrupt: no end-of-archive marker at byte {offset}"
            )


def _give_up(error: OSError) -> None:
    raise error

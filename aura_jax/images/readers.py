"""Find image files in folders and WebDataset tars."""

import dataclasses
import os
import stat
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path, PurePosixPath

from aura_jax.errors import ImageError, counted, first_of
from aura_jax.images.decode import Note
from aura_jax.images.folders import visible_files
from aura_jax.images.formats import HEAD
from aura_jax.images.io import decode_image, image_size
from aura_jax.images.left_out import ending_of, is_image, kind_of, summary
from aura_jax.images.options import Decoding
from aura_jax.images.tars import TAR, Member, check_uncompressed, is_tar
from aura_jax.images.transforms import Pixels
from aura_jax.images.webdataset import by_key, kind_in_tar

PHOTOGRAPH = Path(__file__).with_name("chelsea.jpg")  # comes with the package
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
            raise ImageError(f"{self}: is a device, a socket or a link to a pipe; give a file")

    def pixels(self, decoding: Decoding = Decoding(), note: Note | None = None) -> Pixels:
        """Read and decode the image: [H, W, 3] float32 in [-1, 1], see `decode_image`.

        Args:
            decoding: the options.
            note: called with a sentence if the ICC profile cannot be applied and is ignored.

        Raises:
            ImageError: if the file cannot be read or decoded; it names the file.
        """
        return decode_image(self._data(), str(self), decoding, note)

    def image_size(self, decoding: Decoding = Decoding()) -> tuple[int, int] | None:
        """Read the height and width that `pixels` gives the image, without decoding it.

        Returns:
            None for a pipe, since it can be read only once.

        Raises:
            ImageError: if the file cannot be read or is damaged where its size is stored.
        """
        if self.path.is_fifo():
            return None
        return image_size(self._data(), str(self), decoding)

    def _data(self) -> bytes:
        """Read the file's bytes, with an ImageError that names the file if they cannot be."""
        try:
            return self.read()
        except OSError as error:
            raise ImageError(f"{self}: {error.strerror}") from None


def find_images(places: Iterable[Path]) -> list[ImageFile]:
    """Find image files among files, folders and tars.

    Args:
        places: files, which may have any name; tars; and folders, which are searched at any depth
            for images and tars. Hidden files and folders are skipped, also in tars.

    Returns:
        The image files in the order of `places`, each folder's sorted by name, so that every
        process sees them in the same order.

    Raises:
        ImageError: if a place does not exist or holds no images, or a tar cannot be read.
    """
    return list_images(places, Counter())


def list_images(places: Iterable[Path], left_out: Counter[str]) -> list[ImageFile]:
    """Find image files as `find_images` does, and count the other files.

    Args:
        places: the files, tars and folders.
        left_out: receives the number of files that are not taken, by kind.

    Raises:
        ImageError: as `find_images`.
    """
    return [image for place in places for image in _images_of(place, left_out)]


def find_files(place: Path, left_out: Counter[str] | None = None) -> list[Path]:
    """List the image files and tars of a folder, sorted; or a file itself, whatever its name.

    Args:
        place: a file; or a folder, which `visible_files` searches.
        left_out: receives the number of files that are not taken, by kind.

    Raises:
        ImageError: if the place does not exist, the folder holds no such file, or a tar is
            compressed.
        OSError: if a folder cannot be read.
    """
    found = _find(place, Counter() if left_out is None else left_out)
    return [path for path, _ in found]


def _find(place: Path, left_out: Counter[str]) -> list[tuple[Path, bool]]:
    """List image files and tars as `find_files` does, with whether each is a tar."""
    if not place.exists():
        raise ImageError(f"{place}: no such file or folder")
    if not place.is_dir():
        check_uncompressed(str(place))
        return [(place, is_tar(place))]
    found = []
    for entry in visible_files(place, left_out):
        check_uncompressed(entry.path)
        tar = ending_of(entry.name) == TAR
        if tar or is_image(entry.name, partial(_head, entry)):
            found.append((Path(entry.path), tar))
        else:
            left_out[kind_of(entry.name)] += 1
    return _checked(place, found, left_out)


def in_tar(path: Path, member: Member) -> ImageFile:
    """Return the location of a member of a tar."""
    return ImageFile(path, member.name, member.offset, member.size)


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


def _images_of(place: Path, left_out: Counter[str]) -> list[ImageFile]:
    images = []
    for path, tar in _find(place, left_out):
        if not tar:
            images.append(ImageFile(path))
            continue
        for _, found, others in by_key(path, left_out):
            images += [in_tar(path, member) for member in found]
            left_out.update(kind_in_tar(file) for file in others)
    return _checked(place, images, left_out)


def _checked[T](place: Path, found: list[T], left_out: Counter[str]) -> list[T]:
    """Return the files that were found in a place, or raise an error if there are none."""
    if not found:
        others = f"; {summary(left_out)}" if left_out else ""
        raise ImageError(f"{place}: no images found, at any depth or in tars{others}")
    return found


def _head(entry: "os.DirEntry[str]") -> bytes:
    """Read the first bytes of a file; an unreadable one is counted by its name."""
    try:
        with Path(entry.path).open("rb") as file:
            return file.read(HEAD)
    except OSError:
        return b""

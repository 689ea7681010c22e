"""A small photograph, and commands that read it with the weights of the golden files."""

from pathlib import Path

import pytest
from PIL import Image

from aura_jax.cli import app as cli
from tests.commands import invoke
from tests.conftest import GOLDEN_WEIGHTS, ROOT

PHOTO = ROOT / "examples" / "chelsea.jpg"
WEIGHTS = ["--weights", str(GOLDEN_WEIGHTS)]


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A corner of the photograph whose sides are not multiples of 8: 45 x 30."""
    path = tmp_path / "corner.png"
    with Image.open(PHOTO) as image:
        image.crop((100, 60, 145, 90)).save(path)
    return path


def command(*words: str | Path) -> str:
    """Run aura-jax in this process, and return its output."""
    return invoke(cli.app, *words)


def size_of(path: Path) -> tuple[int, int]:
    """Return the width and height of an image file."""
    with Image.open(path) as image:
        return image.size

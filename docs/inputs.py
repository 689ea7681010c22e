"""Write what the Python of the pages reads: python docs/inputs.py FOLDER."""

import shutil
import subprocess
import sys
from pathlib import Path

from aura_jax.cli.app import app
from tests.commands import invoke
from tests.photo_folder import write_photos

ROOT = Path(__file__).parent.parent


def write(folder: Path) -> None:
    """Write a photograph, images, caches of these in both formats, and the help of all commands."""
    shutil.rmtree(folder, ignore_errors=True)
    photos = write_photos(folder / "photos" / "a", 8, size=64).parent
    shutil.copy(ROOT / "examples" / "chelsea.jpg", folder / "photo.jpg")
    for name, form in (("latents", "arrayrecord"), ("tars", "webdataset")):
        words = ("--out", folder / name, "--format", form, "--size", 64, "--per-shard", 2)
        invoke(app, "cache", "make", photos, *words)
    invoke(app, "cache", "stats", folder / "latents")
    words = ("aura_jax.cli.app", "utils", "docs", "--name", "aura-jax", "--title", "Commands")
    subprocess.run(
        [sys.executable, "-m", "typer", *words, "--output", folder / "commands.md"], check=True
    )


if __name__ == "__main__":
    write(Path(sys.argv[1]))

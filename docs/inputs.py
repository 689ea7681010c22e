"""Write the inputs of the pages and the help of all commands: python docs/inputs.py FOLDER."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from aura_jax.cli.app import app
from tests.commands import invoke
from tests.photo_folder import write_photos

ROOT = Path(__file__).parent.parent


def write(folder: Path) -> None:
    """Write a photograph, images, caches of these in both formats, and commands.md."""
    shutil.rmtree(folder, ignore_errors=True)
    photos = write_photos(folder / "photos" / "a", 8, size=64).parent
    shutil.copy(ROOT / "examples" / "chelsea.jpg", folder / "photo.jpg")
    for name, form in (("latents", "arrayrecord"), ("tars", "webdataset")):
        words = ("--out", folder / name, "--format", form, "--size", 64, "--per-shard", 2)
        invoke(app, "cache", "make", photos, *words)
    invoke(app, "cache", "stats", folder / "latents")
    words = ("--out", folder / "ratios", "--bucket", "64x64", "--bucket", "64x48")
    invoke(app, "cache", "make", photos, *words)
    words = ("aura_jax.cli.app", "utils", "docs", "--name", "aura-jax", "--title", "Commands")
    page = folder / "commands.md"
    subprocess.run([sys.executable, "-m", "typer", *words, "--output", page], check=True)
    page.write_text(complete(page.read_text()))


def complete(page: str) -> str:
    """Replace the summaries of commands, which typer 0.29 cuts off, with their whole sentences."""
    sentences = dict(re.findall(r"^##+ `aura-jax (?:\w+ )?(\w+)`\n\n(.+)$", page, re.MULTILINE))
    return re.sub(
        r"^\* `(\w+)`: .*\.\.\.$",
        lambda line: f"* `{line[1]}`: {sentences[line[1]]}",
        page,
        flags=re.MULTILINE,
    )


if __name__ == "__main__":
    write(Path(sys.argv[1]))

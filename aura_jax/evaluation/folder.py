"""The folder of a report: its JSON document, its figure, and the images that were compared."""

import re
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from aura_jax.errors import AuraError
from aura_jax.files import check_folder

JSON_NAME, FIGURE_NAME = "evaluation.json", "evaluation.png"
ORIGINAL, RECONSTRUCTION = "original", "reconstruction"
ENTRIES = (ORIGINAL, RECONSTRUCTION, FIGURE_NAME, JSON_NAME)  # the document comes last
UNFINISHED = ".evaluation."
LONGEST_PART = 60  # characters of a folder's name that come from the weights' name


def check_report_folder(out: Path, *, overwrite: bool) -> None:
    """Check that a report can be written to a folder, before any work is done for it.

    Raises:
        AuraError: if the folder cannot be written; or holds a report and `overwrite` is false; or
            holds folders with the names of a report's, but no report.
    """
    check_folder(out)
    found = [out / name for name in ENTRIES if (out / name).exists()]
    if not found:
        return
    if not (out / JSON_NAME).is_file():
        raise AuraError(f"{found[0]}: is not part of a report; give another folder")
    if not overwrite:
        raise AuraError(f"{out / JSON_NAME}: exists already; give another folder or --overwrite")


def reconstruction_folders(weights: Sequence[str]) -> list[str]:
    """Name the folder of each model's reconstructions, within the report's folder.

    It is "reconstruction" for one model, and a numbered folder in it for each of several.
    """
    if len(weights) == 1:
        return [RECONSTRUCTION]
    parts = [re.sub(r"[^\w.-]+", "_", name, flags=re.ASCII)[-LONGEST_PART:] for name in weights]
    return [f"{RECONSTRUCTION}/{i}_{part}" for i, part in enumerate(parts, 1)]


@contextmanager
def writing(out: Path) -> Iterator[Path]:
    """Yield an empty folder, and move its contents to `out` when the block succeeds.

    If the block raises, `out` stays as it was. Leftovers of killed processes are removed.

    Args:
        out: a folder that `check_report_folder` has checked; it is made if it is missing.
    """
    missing = [folder for folder in (out, *out.absolute().parents) if not folder.exists()]
    out.mkdir(parents=True, exist_ok=True)
    for leftover in out.glob(f"{UNFINISHED}{'[0-9a-f]' * 8}"):
        shutil.rmtree(leftover, ignore_errors=True)
    unfinished = out / f"{UNFINISHED}{secrets.token_hex(4)}"
    try:
        unfinished.mkdir()
        yield unfinished
        _publish(unfinished, out)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        with suppress(OSError):  # a folder with contents stays
            for folder in missing:
                folder.rmdir()


def _publish(unfinished: Path, out: Path) -> None:
    """Move what was written to `out`, in place of an older report.

    A report that is half replaced has no document, so that it is not taken for a whole one.
    """
    replaced = unfinished / "replaced"
    replaced.mkdir()
    for name in reversed(ENTRIES):
        if (out / name).exists():
            (out / name).rename(replaced / name)
    for name in ENTRIES:
        (unfinished / name).rename(out / name)

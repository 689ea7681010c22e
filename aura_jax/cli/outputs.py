"""Check the image files that a command will write, before the work."""

from collections.abc import Sequence
from pathlib import Path

from aura_jax.errors import AuraError
from aura_jax.files import LONGEST_NAME, check_folder, check_free
from aura_jax.images.io import WRITABLE_ENDINGS, is_image_name


def check_image(out: Path, *, overwrite: bool) -> None:
    """Check that an image file can be written.

    Raises:
        AuraError: if its ending names no supported format, or as `check_free`.
    """
    if out.suffix.lower() not in WRITABLE_ENDINGS:
        raise AuraError(f"{out}: expected a name that ends in {', '.join(WRITABLE_ENDINGS)}")
    check_free(out, overwrite=overwrite)


def image_targets(names: Sequence[str], out: Path, *, overwrite: bool) -> dict[str, Path]:
    """Choose the file that each latent is decoded to: `out` itself, or NAME.png in that folder.

    Args:
        names: the names of the latents.
        out: a folder, which may be missing; or an image file, if there is one latent.
        overwrite: whether files that exist may be replaced.

    Raises:
        AuraError: if one of the files cannot be written.
    """
    if is_image_name(out) and not out.is_dir():
        if len(names) != 1:
            raise AuraError(f"{out}: one image for {len(names)} latents; give a folder")
        check_image(out, overwrite=overwrite)
        return {names[0]: out}
    check_folder(out)
    targets = {name: out / f"{name}.png" for name in names}
    for name, path in targets.items():
        length = len(f"{name}.png".encode())
        if not name or path.name != f"{name}.png" or "\0" in name or length > LONGEST_NAME:
            raise AuraError(f"latent named {name[:80]!r}: no file can have this name")
        if out.exists():
            check_free(path, overwrite=overwrite)
    return targets

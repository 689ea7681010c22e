"""The command aura-jax: photographs to latents and back."""

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.filesize import decimal

from aura_jax.checkpoint.describe import summarize
from aura_jax.checkpoint.hub import find_checkpoint
from aura_jax.checkpoint.tensors import open_safetensors
from aura_jax.cli.cache import cache
from aura_jax.cli.equivariance import equivariance
from aura_jax.cli.options import DEFAULT_WEIGHTS, Json, Overwrite, Weights
from aura_jax.cli.run import run
from aura_jax.cli.train import train
from aura_jax.console import progress, say
from aura_jax.errors import AuraError, ImageError
from aura_jax.files import check_folder, check_free
from aura_jax.images import transforms
from aura_jax.images.grid import grid
from aura_jax.images.io import WRITABLE_ENDINGS, is_image_name, read_image, write_image
from aura_jax.images.transforms import Pixels, to_uint8
from aura_jax.photo_latents import (
    decode_photo,
    encode_photo,
    load_rgb,
    read_latents,
    reconstructions,
    write_latents,
)

LABELS = {"none": "reconstruction", "h": "h flip", "v": "v flip", "hv": "hv flip"}

Photos = Annotated[list[Path], typer.Argument(metavar="PHOTO", help="Pictures of any size.")]
LatentsFile = Annotated[Path, typer.Argument(metavar="LATENTS", help="What `encode` wrote.")]
Size = Annotated[int | None, typer.Option(min=1, help="Cut out a square of this many pixels.")]
Crop = Annotated[
    int | None,
    typer.Option(min=0, help="Its distance from the left and top edge, in pixels; else centered."),
]

app = typer.Typer(
    help="AuraEquiVAE in JAX: photographs to latents, flips of latents, and back.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


app.command()(equivariance)
app.command()(train)
app.add_typer(cache, name="cache")


def main() -> None:
    """The entry point of the command."""
    run(app)


@app.command()
def reconstruct(
    photos: Photos,
    out: Annotated[Path, typer.Option(help="The picture to write.")],
    weights: Weights = DEFAULT_WEIGHTS,
    size: Size = None,
    crop: Crop = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Encode photographs, decode them as they are and flipped: a labelled grid with PSNR."""
    _check_picture(out, overwrite=overwrite)
    vae = load_rgb(weights)
    rows, results = [], []
    for path, pixels, versions in _each(photos, size, crop, partial(reconstructions, vae)):
        row = [(f"{path.name}, {pixels.shape[1]} x {pixels.shape[0]}", to_uint8(pixels))]
        row += [(f"{LABELS[k]}, {v.psnr:.2f} dB", v.picture) for k, v in versions.items()]
        rows.append(row)
        results.append(
            {
                "photo": str(path),
                "size": [pixels.shape[1], pixels.shape[0]],
                "psnr_db": {name: _decibels(version.psnr) for name, version in versions.items()},
            }
        )
    write_image(out, grid(f"weights: {weights}", rows))
    lines = [f"{row[0][0]}: {'; '.join(label for label, _ in row[1:])}" for row in rows]
    _report(results, [*lines, f"wrote {out}"], as_json=as_json)


@app.command()
def encode(
    photos: Photos,
    out: Annotated[Path, typer.Option(help="The safetensors file to write.")],
    weights: Weights = DEFAULT_WEIGHTS,
    size: Size = None,
    crop: Crop = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Encode photographs to latents of an eighth of their size, 16 channels, clamped to ±8."""
    check_free(out, overwrite=overwrite)
    _check_names(photos)
    vae = load_rgb(weights)
    encoded = _each(photos, size, crop, partial(encode_photo, vae))
    latents = {path.stem: latent for path, _, latent in encoded}
    write_latents(out, latents, vae.config)
    results = [
        {"name": name, "shape": list(z.values.shape), "dtype": str(z.values.dtype)}
        for name, z in latents.items()
    ]
    lines = [
        f"{r['name']}: latent {' x '.join(map(str, r['shape']))} {r['dtype']}" for r in results
    ]
    _report(results, [*lines, f"wrote {out} ({decimal(out.stat().st_size)})"], as_json=as_json)


@app.command()
def decode(
    latents: LatentsFile,
    out: Annotated[Path, typer.Option(help="A folder; or a picture, if there is one latent.")],
    weights: Weights = DEFAULT_WEIGHTS,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Decode latents to pictures of the photographs' own size."""
    stored, config = read_latents(latents)
    targets = _targets(list(stored), out, overwrite=overwrite)
    vae = load_rgb(weights, config=config)
    results = []
    with progress() as bar:
        for name in bar.track(stored, description="decode"):
            picture = decode_photo(vae, stored[name])
            targets[name].parent.mkdir(parents=True, exist_ok=True)
            write_image(targets[name], picture)
            height, width = picture.shape[:2]
            results.append({"picture": str(targets[name]), "size": [width, height]})
    _report(results, [f"wrote {r['picture']}" for r in results], as_json=as_json)


@app.command()
def flip(
    latents: LatentsFile,
    out: Annotated[Path, typer.Option(help="The safetensors file to write.")],
    horizontal: Annotated[bool, typer.Option("-h", "--horizontal", help="Left to right.")] = False,
    vertical: Annotated[bool, typer.Option("-v", "--vertical", help="Top to bottom.")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Flip photographs in latent space; no weights are needed."""
    if not (horizontal or vertical):
        raise AuraError("nothing to flip: give -h, -v or both")
    check_free(out, overwrite=overwrite)
    stored, config = read_latents(latents)
    flipped = {
        name: z.flipped({"horizontal": horizontal, "vertical": vertical}, config.downsampling)
        for name, z in stored.items()
    }
    write_latents(out, flipped, config)
    say(f"wrote {out}")


@app.command()
def info(
    checkpoint: Annotated[str, typer.Argument(help="small, a checkpoint file, or a hub id.")],
    as_json: Json = False,
) -> None:
    """Say what a checkpoint holds; its names and shapes are checked, its values are not read."""
    path = find_checkpoint(checkpoint)
    summary, size = summarize(open_safetensors(path)), path.stat().st_size
    result = {"path": str(path), "bytes": size, **dataclasses.asdict(summary)}
    _report(result, [f"{path} ({decimal(size)})", str(summary)], as_json=as_json)


def _each[Result](
    photos: list[Path], size: int | None, crop: int | None, process: Callable[[Pixels], Result]
) -> Iterator[tuple[Path, Pixels, Result]]:
    """Reads, crops and processes photographs one by one; errors name the file."""
    if crop is not None and size is None:
        raise AuraError("--crop says where a square lies; give its --size too")
    with progress() as bar:
        for path in bar.track(photos, description="photographs"):
            pixels = read_image(path)
            try:
                pixels = pixels if size is None else transforms.crop(pixels, size, crop)
                yield path, pixels, process(pixels)
            except ImageError as error:
                raise ImageError(f"{path}: {error}") from None


def _decibels(psnr: float) -> float | None:
    """A number that JSON has; equal pictures have no finite one."""
    return round(psnr, 4) if math.isfinite(psnr) else None


def _check_names(photos: list[Path]) -> None:
    """Refuses photographs whose names cannot be those of tensors in one file."""
    for name, count in Counter(path.stem for path in photos).items():
        if count > 1:
            raise AuraError(f"photographs of the same name: {name}; encode them apart")
        if name == "__metadata__" or not name.isprintable():
            raise AuraError(f"photograph named {name!r}: rename it, a tensor cannot have this name")


def _targets(names: list[str], out: Path, *, overwrite: bool) -> dict[str, Path]:
    """Where each picture goes: `out` itself if it is a picture's name, else into the folder."""
    if is_image_name(out) and not out.is_dir():
        if len(names) != 1:
            raise AuraError(f"{out}: one picture for {len(names)} latents; name a folder")
        _check_picture(out, overwrite=overwrite)
        return {names[0]: out}
    check_folder(out)
    targets = {name: out / f"{name}.png" for name in names}
    for name, path in targets.items():
        if not name or path.name != f"{name}.png" or "\0" in name or len(name.encode()) > 200:
            raise AuraError(f"latent named {name[:80]!r}: no file can have this name")
        if out.exists():
            check_free(path, overwrite=overwrite)
    return targets


def _check_picture(out: Path, *, overwrite: bool) -> None:
    if out.suffix.lower() not in WRITABLE_ENDINGS:
        raise AuraError(f"{out}: expected a name that ends in {', '.join(WRITABLE_ENDINGS)}")
    check_free(out, overwrite=overwrite)


def _report(result: Any, lines: list[str], *, as_json: bool) -> None:
    """Prints results: one JSON document for scripts, lines for people."""
    if as_json:
        print(json.dumps(result, allow_nan=False))
        return
    for line in lines:
        say(line)

"""The commands reconstruct, encode, decode and flip, for images and their latents."""

import dataclasses
import math
from pathlib import Path
from typing import Annotated

import typer
from rich.filesize import decimal

from aura_jax.cli.options import (
    DEFAULT_WEIGHTS,
    ComputeDtype,
    Images,
    Json,
    MaxPixels,
    Overwrite,
    RawColors,
    Weights,
)
from aura_jax.cli.run import report
from aura_jax.cli.start import importing
from aura_jax.console import say, warn
from aura_jax.errors import AuraError, printable
from aura_jax.files import check_free, check_outside
from aura_jax.images.options import MAX_PIXELS, Decoding

LABELS = {"none": "reconstruction", "h": "h flip", "v": "v flip", "hv": "hv flip"}

LatentsFile = Annotated[
    Path, typer.Argument(metavar="LATENTS", help="The file that `aura-jax encode` wrote.")
]
SafetensorsFile = Annotated[Path, typer.Option(help="The safetensors file to write.")]
Size = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Cut a square of this many pixels a side from each image, without scaling.",
        show_default="the whole image",
    ),
]
Crop = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Offset in pixels of the square of --size from the left edge and from the top edge.",
        show_default="centered",
    ),
]


def reconstruct(
    images: Images,
    out: Annotated[Path, typer.Option(help="The image to write: .png, .jpg or .webp.")],
    weights: Weights = DEFAULT_WEIGHTS,
    size: Size = None,
    crop: Crop = None,
    compute_dtype: ComputeDtype = None,
    max_pixels: MaxPixels = MAX_PIXELS,
    raw_colors: RawColors = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Draw images beside their reconstructions from unchanged and flipped latents.

    The grid has a row for each image, and shows the PSNR of each reconstruction in decibels.
    """
    _check_crop(size, crop)
    with importing():
        from aura_jax.cli import inputs, outputs
        from aura_jax.images.grid import grid
        from aura_jax.images.io import write_image
        from aura_jax.images.readers import ImageFile
        from aura_jax.images.transforms import Pixels8, to_uint8
    outputs.check_image(out, overwrite=overwrite)
    check_outside(out, images)
    files = inputs.find(images, out)
    with importing():
        from aura_jax.photo_latents import Reconstruction, load_rgb, reconstructions
        from aura_jax.runtime.fitted import FittedCodec
    vae, decoding = load_rgb(weights, dtype=compute_dtype), Decoding(max_pixels, raw_colors)
    # Encoding once and decoding four times costs about three times as much for each compilation.
    codec = FittedCodec(vae, 3 * inputs.sizes(files, decoding, size))

    def process(file: ImageFile) -> tuple[Pixels8, dict[str, Reconstruction]]:
        pixels = inputs.cut(inputs.pixels(file, decoding), size, crop)
        return to_uint8(pixels), reconstructions(codec, pixels)

    rows, results, lines = [], [], []
    for file, (original, versions) in inputs.each(files, process):
        height, width = original.shape[:2]
        title = f"{printable(file.name)}, {width} x {height}"
        labels = {name: f"{LABELS[name]}, {each.psnr:.2f} dB" for name, each in versions.items()}
        shown = [(labels[name], each.image) for name, each in versions.items()]
        rows.append([(title, original), *shown])
        lines.append(f"{title}: {'; '.join(labels.values())}")
        numbers = {name: _finite(each.psnr) for name, each in versions.items()}
        results.append({"image": str(file), "size": [width, height], "psnr_db": numbers})
    write_image(out, grid(f"weights: {weights}", rows))
    report(results, [*lines, f"wrote {out}"], as_json=as_json)
    inputs.check_complete(files, results)


def encode(
    images: Images,
    out: SafetensorsFile,
    weights: Weights = DEFAULT_WEIGHTS,
    size: Size = None,
    crop: Crop = None,
    compute_dtype: ComputeDtype = None,
    max_pixels: MaxPixels = MAX_PIXELS,
    raw_colors: RawColors = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Encode images to latents with 16 channels and an eighth of the width and height.

    Each latent is named after its image file, without the ending, so these names must differ.
    """
    _check_crop(size, crop)
    check_free(out, overwrite=overwrite)
    with importing():
        from aura_jax.cli import inputs
        from aura_jax.images.readers import ImageFile
    files = inputs.find(images, out)
    names = inputs.latent_names(files)
    with importing():
        from aura_jax.model.parameters import fingerprint
        from aura_jax.photo_latents import (
            Latent,
            LatentFile,
            encode_photo,
            load_rgb,
            write_latents,
        )
        from aura_jax.runtime.fitted import FittedCodec
    vae, decoding = load_rgb(weights, dtype=compute_dtype), Decoding(max_pixels, raw_colors)
    codec = FittedCodec(vae, inputs.sizes(files, decoding, size))

    def process(file: ImageFile) -> Latent:
        return encode_photo(codec, inputs.cut(inputs.pixels(file, decoding), size, crop))

    latents = {names[file]: latent for file, latent in inputs.each(files, process)}
    write_latents(out, LatentFile(latents, codec.config, fingerprint(vae)))
    results = [
        {"name": name, "shape": list(z.values.shape), "dtype": str(z.values.dtype)}
        for name, z in latents.items()
    ]
    lines = [
        f"{each['name']}: latent {' x '.join(map(str, each['shape']))} {each['dtype']}"
        for each in results
    ]
    report(results, [*lines, f"wrote {out} ({decimal(out.stat().st_size)})"], as_json=as_json)
    inputs.check_complete(files, results)


def decode(
    latents: LatentsFile,
    out: Annotated[
        Path,
        typer.Option(
            help="The folder to write a NAME.png file to for each latent; if there is one latent, "
            "this may be an image file instead."
        ),
    ],
    weights: Weights = DEFAULT_WEIGHTS,
    compute_dtype: ComputeDtype = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Decode latents to images of the original sizes."""
    with importing():
        from aura_jax.cli import inputs
        from aura_jax.cli.outputs import image_targets
        from aura_jax.images.io import write_image
        from aura_jax.model.parameters import fingerprint
        from aura_jax.photo_latents import decode_photo, load_rgb, read_latents
        from aura_jax.runtime.fitted import FittedCodec
    file = read_latents(latents)
    stored = file.latents
    targets = image_targets([*stored], out, overwrite=overwrite)
    vae = load_rgb(weights, config=file.config, dtype=compute_dtype)
    if file.weights not in (None, fingerprint(vae)):
        warn(f"warning: {latents}: its latents were made with other weights than {weights}")
    scale = file.config.downsampling
    sizes = [(scale * z.values.shape[0], scale * z.values.shape[1]) for z in stored.values()]
    codec = FittedCodec(vae, sizes)

    def process(name: str) -> dict[str, object]:
        image = decode_photo(codec, stored[name])
        targets[name].parent.mkdir(parents=True, exist_ok=True)
        write_image(targets[name], image)
        height, width = image.shape[:2]
        return {"image": str(targets[name]), "size": [width, height]}

    results = [result for _, result in inputs.each([*stored], process, "latents")]
    report(
        results,
        [f"wrote {printable(str(each['image']), 1000)}" for each in results],
        as_json=as_json,
    )
    inputs.check_complete(stored, results)


def flip(
    latents: LatentsFile,
    out: SafetensorsFile,
    horizontal: Annotated[
        bool,
        typer.Option(
            "-h",
            "--horizontal",
            help="Flip left to right. To show this command's help, use --help instead of -h.",
        ),
    ] = False,
    vertical: Annotated[bool, typer.Option("-v", "--vertical", help="Flip top to bottom.")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Flip images in latent space, without decoding them and without weights."""
    if not (horizontal or vertical):
        raise AuraError("nothing to flip: give -h, -v or both")
    check_free(out, overwrite=overwrite)
    with importing():
        from aura_jax.photo_latents import read_latents, write_latents
    file = read_latents(latents)
    flipped = {
        name: z.flipped({"horizontal": horizontal, "vertical": vertical}, file.config.downsampling)
        for name, z in file.latents.items()
    }
    write_latents(out, dataclasses.replace(file, latents=flipped))
    say(f"wrote {out}")


def _check_crop(size: int | None, crop: int | None) -> None:
    if crop is not None and size is None:
        raise AuraError("--crop places a square of --size pixels; give --size too")


def _finite(decibels: float) -> float | None:
    """Round a PSNR for JSON, which has no infinity: for equal images it is null."""
    return round(decibels, 4) if math.isfinite(decibels) else None

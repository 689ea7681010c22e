"""The commands encode, decode and flip, for images and their latents."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer
from rich.filesize import decimal

from aura_jax.cli.options import (
    DEFAULT_WEIGHTS,
    ComputeDtype,
    Crop,
    Images,
    Json,
    MaxPixels,
    Overwrite,
    RawColors,
    Size,
    Weights,
    check_crop,
)
from aura_jax.cli.run import report
from aura_jax.cli.start import importing
from aura_jax.console import say, warn
from aura_jax.errors import AuraError, printable
from aura_jax.files import check_free
from aura_jax.images.options import MAX_PIXELS, Decoding

LatentsFile = Annotated[
    Path, typer.Argument(metavar="LATENTS", help="The file that `aura-jax encode` wrote.")
]
SafetensorsFile = Annotated[Path, typer.Option(help="The safetensors file to write.")]


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
    check_crop(size, crop)
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

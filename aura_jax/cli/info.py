"""The command aura-jax info: describe a checkpoint, or a file of latents."""

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.filesize import decimal

from aura_jax.cli.options import Json, Prefix
from aura_jax.cli.run import report
from aura_jax.cli.start import importing

if TYPE_CHECKING:
    from aura_jax.photo_latents import LatentFile


def info(
    checkpoint: Annotated[
        str,
        typer.Argument(
            metavar="CHECKPOINT",
            help="The checkpoint: small (comes with the package), a file or folder, or a Hugging "
            "Face id. It may also be a file that `aura-jax encode` wrote.",
        ),
    ],
    prefix: Prefix = None,
    as_json: Json = False,
) -> None:
    """Describe a checkpoint: its size, layout, dtypes, config and number of parameters.

    The names and shapes of its tensors are checked; their values are not read.

    For a file that `aura-jax encode` wrote, the latents and the fingerprint of
    the weights that made them are described instead.
    """
    with importing():
        from aura_jax.checkpoint.describe import summarize
        from aura_jax.checkpoint.hub import find_checkpoint
        from aura_jax.checkpoint.prefix import autoencoder_in
        from aura_jax.checkpoint.shards import files_of, open_checkpoint
        from aura_jax.photo_latents import LATENTS, read_latents
    path = find_checkpoint(checkpoint)
    stored, size = open_checkpoint(path), sum(file.stat().st_size for file in files_of(path))
    file = {"path": str(path), "bytes": size}
    first = f"{path} ({decimal(size)})"
    if LATENTS in stored.metadata:
        found = read_latents(path)
        report({**file, **_about(found)}, [first, *_lines(found)], as_json=as_json)
        return
    summary = summarize(autoencoder_in(stored, prefix))
    results = {**file, **summary.to_dict()}
    report(results, [first, str(summary)], as_json=as_json)


def _about(file: "LatentFile") -> dict[str, Any]:
    """Describe latents and the model that made them in values of JSON."""
    latents = [
        {
            "name": name,
            "shape": list(z.values.shape),
            "dtype": str(z.values.dtype),
            "image": [z.box[2] - z.box[0], z.box[3] - z.box[1]],
        }
        for name, z in file.latents.items()
    ]
    config = dataclasses.asdict(file.config)
    return {"latents": latents, "config": config, "weights": file.weights}


def _lines(file: "LatentFile") -> Iterator[str]:
    for each in _about(file)["latents"]:
        shape, (width, height) = " x ".join(map(str, each["shape"])), each["image"]
        yield f"{each['name']}: latent {shape} {each['dtype']}, of an image of {width} x {height}"
    yield f"made with weights of fingerprint {file.weights or 'unknown'}"
    yield str(file.config)

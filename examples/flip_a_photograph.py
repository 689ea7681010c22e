"""Encode a photograph, flip it in latent space, decode: a picture of the originals and the flips.

    python examples/flip_a_photograph.py --weights fal/AuraEquiVAE --photo photo.jpg --out flips.png

Without arguments it takes the small checkpoint that comes with the package, and a photograph that
it was not trained on.
"""

import argparse
from pathlib import Path

import aura_jax
from aura_jax.images.grid import grid
from aura_jax.images.io import read_image, write_image
from aura_jax.images.transforms import to_uint8
from aura_jax.photo_latents import reconstructions

ROOT = Path(__file__).parent.parent
COLUMNS = {
    "none": "decode(z)",
    "h": "decode(flip_latents(z, horizontal))",
    "v": "decode(flip_latents(z, vertical))",
    "hv": "decode(flip_latents(z, both))",
}


def main() -> None:
    """Reads the arguments, draws the grid, prints where it is."""
    parser = argparse.ArgumentParser(description="Flip a photograph in latent space.")
    parser.add_argument("--weights", default="small", help="small, a file or a hub id")
    parser.add_argument("--photo", type=Path, default=ROOT / "examples" / "chelsea.jpg")
    parser.add_argument("--out", type=Path, default=Path("flips.png"))
    arguments = parser.parse_args()

    vae = aura_jax.load(arguments.weights)
    photo = read_image(arguments.photo)
    row = [(arguments.photo.name, to_uint8(photo))]
    for name, version in reconstructions(vae, photo).items():
        row.append((f"{COLUMNS[name]}: {version.psnr:.1f} dB", version.picture))
    write_image(arguments.out, grid(f"weights: {arguments.weights}", [row]))
    print(f"wrote {arguments.out}")


if __name__ == "__main__":
    main()

"""Encode a photograph, flip it in latent space, decode, and draw the original beside the flips.

    python examples/flip_a_photograph.py --weights fal/AuraEquiVAE --photo photo.jpg --out flips.png

Without arguments it takes the small checkpoint that comes with the package, and a photograph that
the checkpoint was not trained on.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

import aura_jax

ROOT = Path(__file__).parent.parent
FLIPS = {
    "decode(z)": {},
    "decode(flip_latents(z, horizontal))": {"horizontal": True},
    "decode(flip_latents(z, vertical))": {"vertical": True},
    "decode(flip_latents(z, both))": {"horizontal": True, "vertical": True},
}


def main() -> None:
    """Read the arguments, flip the photograph, write the image."""
    parser = argparse.ArgumentParser(description="Flip a photograph in latent space.")
    parser.add_argument(
        "--weights",
        default="small",
        help="small (the default), a file, a folder or a Hugging Face id",
    )
    parser.add_argument(
        "--photo",
        type=Path,
        default=ROOT / "examples" / "chelsea.jpg",
        help="image file to flip; by default examples/chelsea.jpg",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("flips.png"),
        help="image file to write; by default flips.png",
    )
    arguments = parser.parse_args()

    vae = aura_jax.load(arguments.weights)
    pixels = np.asarray(ImageOps.exif_transpose(Image.open(arguments.photo)).convert("RGB"))
    shown = {arguments.photo.name: pixels}
    for label, decoded, psnr in reconstructions(vae, pixels):
        shown[f"{label}: {psnr:.1f} dB"] = decoded
    draw(f"weights: {arguments.weights}", shown).save(arguments.out)
    print(f"wrote {arguments.out}")


def reconstructions(
    vae: aura_jax.AuraEquiVAE, pixels: np.ndarray
) -> Iterator[tuple[str, np.ndarray, float]]:
    """Yield the image decoded from each flip of the latent, and its PSNR in decibels.

    The PSNR compares it with the flipped photograph. The model needs sides that are multiples of 8,
    so the right and bottom edges are repeated as padding. It is cut off the decoded image, at the
    left or top after a flip.
    """
    height, width = pixels.shape[:2]
    padded = np.pad(pixels, ((0, -height % 8), (0, -width % 8), (0, 0)), mode="edge")
    z = aura_jax.encode(vae, padded[None] / np.float32(127.5) - 1)
    for label, flip in FLIPS.items():
        decoded = np.asarray(aura_jax.decode(vae, aura_jax.flip_latents(z, **flip))[0])
        levels = ((decoded + 1) * np.float32(127.5)).round().clip(0, 255).astype(np.uint8)
        upright = aura_jax.flip_images(levels, **flip)[:height, :width]
        error = np.mean((upright - pixels.astype(float)) ** 2)
        yield label, aura_jax.flip_images(upright, **flip), 10 * np.log10(255**2 / error)


def draw(title: str, images: dict[str, np.ndarray]) -> Image.Image:
    """Draw images in a row, each under its label."""
    font = ImageFont.load_default(16)
    width = max(
        [round(font.getlength(label)) for label in images]
        + [image.shape[1] for image in images.values()]
    )
    height = max(image.shape[0] for image in images.values())
    canvas = Image.new("RGB", (8 + len(images) * (width + 8), height + 60), "white")
    pen = ImageDraw.Draw(canvas)
    pen.text((8, 8), title, fill="black", font=font)
    for column, (label, image) in enumerate(images.items()):
        left = 8 + column * (width + 8)
        pen.text((left, 30), label, fill="black", font=font)
        canvas.paste(Image.fromarray(image), (left, 52))
    return canvas


if __name__ == "__main__":
    main()

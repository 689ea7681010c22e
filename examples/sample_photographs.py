"""Write the images that the small checkpoint was trained on, from photographs in packages.

It needs `pip install scikit-image scikit-learn matplotlib`. OUT/train holds the photographs of
scikit-image and scikit-learn in random orientations and colors, and collages of them; OUT/held_out
holds photographs that are never trained on.
"""

import argparse
from pathlib import Path

import jax
import matplotlib
import numpy as np
import skimage
import sklearn
from dm_pix import random_brightness, random_contrast, random_hue, random_saturation
from PIL import Image, ImageDraw

type Pixels8 = np.ndarray  # rows, columns, RGB in 8 bits

SKIMAGE = Path(skimage.__file__).parent / "data"
SKLEARN = Path(sklearn.__file__).parent / "datasets" / "images"
MATPLOTLIB = Path(matplotlib.get_data_path()) / "sample_data"

HELD_OUT = [SKIMAGE / "astronaut.png", SKIMAGE / "chelsea.png", MATPLOTLIB / "grace_hopper.jpg"]
COLOR = ["coffee.png", "rocket.jpg", "hubble_deep_field.jpg", "retina.jpg", "ihc.png"]
COLOR += ["motorcycle_left.png", "motorcycle_right.png"]
GRAY = ["camera.png", "coins.png", "moon.png", "brick.png", "grass.png", "gravel.png"]
GRAY += ["page.png", "text.png"]
TRAIN = [SKLEARN / "china.jpg", SKLEARN / "flower.jpg"] + [SKIMAGE / n for n in COLOR + GRAY]

SHORT_SIDE = 512  # larger photographs are scaled down to it: they are not sharper
SIDE, LEAVES = 256, 50  # of a generated image (small for fast decoding); of a collage


def main() -> None:
    """Write both folders."""
    parser = argparse.ArgumentParser(description="Write sample photographs to train and test on.")
    parser.add_argument(
        "--out", type=Path, default=Path("photos"), help="folder to write; by default photos"
    )
    parser.add_argument(
        "--variants", type=int, default=24, help="images made of each photograph; by default 24"
    )
    parser.add_argument(
        "--collages", type=int, default=200, help="number of collages; by default 200"
    )
    args = parser.parse_args()
    if args.out.exists():
        parser.error(f"{args.out} exists already; give another --out")
    rng = np.random.default_rng(0)
    for name in ("train", "held_out"):
        (args.out / name).mkdir(parents=True)
    for path in HELD_OUT:
        Image.open(path).convert("RGB").save(args.out / "held_out" / f"{path.stem}.png")
    photos = {path.stem: read(path) for path in TRAIN}
    for name, photo in photos.items():
        for i in range(args.variants):
            variant = varied(square(photo, rng), rng) if i else photo
            save(args.out / "train" / f"{name}_{i}.png", variant)
    for i in range(args.collages):
        save(args.out / "train" / f"collage_{i}.png", collage(list(photos.values()), rng))
    print(f"wrote {args.out / 'train'} and {args.out / 'held_out'}")


def save(path: Path, pixels: Pixels8) -> None:
    """Write a PNG file with little compression, since it is read many times."""
    Image.fromarray(pixels).save(path, compress_level=1)


def read(path: Path) -> Pixels8:
    """Read a photograph as RGB, scaled to at most SHORT_SIDE pixels on its short side."""
    image = Image.open(path).convert("RGB")
    scale = min(1.0, SHORT_SIDE / min(image.size))
    size = (round(image.width * scale), round(image.height * scale))
    return np.asarray(image.resize(size, Image.Resampling.LANCZOS))


def square(photo: Pixels8, rng: np.random.Generator) -> Pixels8:
    """Cut a random square of a photograph and scale it to SIDE pixels, or fewer if it is small."""
    short = min(photo.shape[:2])
    extent = rng.integers(min(SIDE, short), short + 1)
    top, left = (rng.integers(n - extent + 1) for n in photo.shape[:2])
    image = Image.fromarray(photo[top : top + extent, left : left + extent])
    side = min(SIDE, extent)
    return np.asarray(image.resize((side, side), Image.Resampling.LANCZOS))


def varied(photo: Pixels8, rng: np.random.Generator) -> Pixels8:
    """Turn and mirror a photograph and change its colors."""
    turned = np.rot90(photo, rng.integers(4))[:, :: rng.choice([-1, 1])]
    colors = rng.permutation(3) if rng.random() < 0.5 else np.arange(3)
    tint = rng.uniform(0.75, 1, 3)  # so that gray photographs get a color too
    pixels = turned[..., colors].astype(np.float32) / 255 * tint.astype(np.float32)
    for i, change in enumerate((random_hue, random_saturation, random_contrast, random_brightness)):
        key = jax.random.key(rng.integers(2**31))
        limits = ((0.2,), (0.5, 1.6), (0.6, 1.4), (0.15,))[i]
        pixels = change(key, pixels, *limits)
    return np.rint(np.clip(np.asarray(pixels), 0, 1) * 255).astype(np.uint8)


def collage(photos: list[Pixels8], rng: np.random.Generator) -> Pixels8:
    """Draw a pile of leaves, each a piece of a photograph or one color.

    Their sizes follow the power law of objects in photographs (Lee, Mumford, Huang, 2001).
    """
    size = 2 * SIDE  # drawn at twice the size, for smooth edges
    canvas = Image.fromarray(piece(photos, size, rng))
    for _ in range(LEAVES):
        radius = min(20 / np.sqrt(rng.uniform(0.001, 1)), size / 3)
        x, y = rng.uniform(0, size, 2)
        side = 2 * int(radius) + 2
        mask = Image.new("L", (side, side))
        ImageDraw.Draw(mask).polygon(outline(radius, rng), fill=255)
        leaf = Image.fromarray(piece(photos, side, rng))
        canvas.paste(leaf, (int(x - radius), int(y - radius)), mask)
    small = canvas.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    return varied(np.asarray(small), rng)


def piece(photos: list[Pixels8], side: int, rng: np.random.Generator) -> Pixels8:
    """Cut a square of a photograph, or fill one with a color of it."""
    photo = photos[rng.integers(len(photos))]
    extent = int(rng.uniform(0.1, 1) * min(photo.shape[:2]))
    top, left = (rng.integers(n - extent + 1) for n in photo.shape[:2])
    square = photo[top : top + extent, left : left + extent]
    if rng.random() < 0.3:
        square = square[:1, :1]
    return np.asarray(Image.fromarray(square).resize((side, side), Image.Resampling.BICUBIC))


def outline(radius: float, rng: np.random.Generator) -> list[tuple[float, float]]:
    """Draw a random polygon, from a triangle to nearly a circle."""
    corners = rng.choice([3, 4, 5, 32])
    angles = (np.arange(corners) + rng.uniform(0, 1)) * 2 * np.pi / corners
    return [(radius * (1 + np.cos(a)), radius * (1 + np.sin(a))) for a in angles]


if __name__ == "__main__":
    main()

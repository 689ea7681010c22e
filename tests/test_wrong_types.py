"""The words for arguments of a wrong type, in a process without beartype."""

from pathlib import Path

from tests.conftest import GOLDEN_WEIGHTS
from tests.test_package import python


def test_wrong_types_are_named_where_no_type_checker_looks(tmp_path: Path):
    """Under pytest beartype speaks first; users have our own words."""
    code = f"""
import aura_jax, numpy as np, PIL.Image
from aura_jax import images
from flax import nnx
x = np.zeros((1, 8, 8, 16), np.float32)
statistics = aura_jax.latents.Statistics(1, (0.0,) * 16, (1.0,) * 16, {{}}, 0.0)
vae = aura_jax.load({str(GOLDEN_WEIGHTS)!r})
for call in (
    lambda: aura_jax.flip_latents(x, horizontal=1),
    lambda: aura_jax.flip_latents(x, vertical="yes"),
    lambda: aura_jax.save(vae, "keras.st", layout="keras"),
    lambda: aura_jax.encode(vae, [[1.0]]),
    lambda: aura_jax.decode(vae, None),
    lambda: aura_jax.Codec(vae, precision="best"),
    lambda: aura_jax.Codec(vae, buckets=64),
    lambda: aura_jax.Codec(vae, buckets=(64, 64)),
    lambda: aura_jax.Codec(vae, buckets=[(np.int64(64), 64.0)]),
    lambda: aura_jax.Codec(vae).encode_many(None),
    lambda: aura_jax.Codec(vae).encode_many([[1.0]]),
    lambda: aura_jax.Codec(vae).decode_many([PIL.Image.new("RGB", (8, 8))]),
    lambda: aura_jax.AuraConfig(ch="256"),
    lambda: aura_jax.AuraConfig(ch_mult=4),
    lambda: aura_jax.latents.normalize([1.0], statistics),
    lambda: aura_jax.equivariant("small"),
    lambda: images.psnr([1.0], x),
    lambda: images.from_pil(None),
    lambda: images.from_pil(PIL.Image.new("RGB", (8, 8)), "8"),
    lambda: images.latents_to_pil(None),
    lambda: images.pad_to_multiple([1.0]),
    lambda: images.pad_to_multiple(x, 8.0),
    lambda: images.crop_back(x, 8),
    lambda: next(images.read_batches(None, 1)),
    lambda: next(images.read_batches("photos", 1.0)),
):
    try:
        call()
    except aura_jax.AuraError as error:
        print(error)
"""
    assert python(code, tmp_path).splitlines() == [
        "flip flag 1: expected a bool or an array of booleans",
        "flip flag 'yes': expected a bool or an array of booleans",
        "layout 'keras': expected one of flax, torch",
        "images: expected a jax or numpy array, got a list",
        "latents: expected a jax or numpy array, got a NoneType",
        "precision 'best': expected one of highest, fast",
        "buckets 64: expected sizes, such as [(256, 256)]",
        "bucket 64: expected a height and a width that are multiples of 8",
        "bucket (np.int64(64), 64.0): expected a height and a width that are multiples of 8",
        "images of type NoneType: expected a list of arrays",
        "images: expected a jax or numpy array, got a list",
        "latents: expected a jax or numpy array, got a Image",
        "ch='256': expected positive integers",
        "ch_mult=4: expected a tuple such as (1, 2, 4, 4)",
        "latents: expected a jax or numpy array, got a list",
        "equivariant(vae): expected an AuraEquiVAE, got a str",
        "image: expected a jax or numpy array, got a list",
        "images: expected Pillow images, got NoneType",
        "size '8': expected a number of pixels, 1 or more",
        "latents of shape () and dtype float64: expected [batch, height, width, 1]",
        "images: expected a jax or numpy array, got a list",
        "multiple 8.0: expected a number of pixels, 1 or more",
        "size 8: expected (height, width) in pixels, each 1 or more",
        "None: expected the path of a folder, tar or image file",
        "batches of 1.0 images: expected a number, 1 or more",
    ]
    assert list(tmp_path.iterdir()) == []

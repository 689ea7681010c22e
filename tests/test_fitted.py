"""Few programs for images of many sizes: which sizes share one, and that the commands use them."""

import itertools
import os
from collections import Counter
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from PIL import Image

import aura_jax
from aura_jax import AuraEquiVAE, ImageError
from aura_jax.arrays import relative_error
from aura_jax.cli import inputs
from aura_jax.cli.app import app
from aura_jax.images.options import Decoding
from aura_jax.images.readers import ImageFile
from aura_jax.photo_latents import read_latents
from aura_jax.runtime.codec import Codec
from aura_jax.runtime.fitted import (
    ELSEWHERE,
    ON_CPU,
    FittedCodec,
    bucket,
    divided,
    shared_programs,
)
from aura_jax.runtime.program import EXECUTABLES, Program
from convert.tolerances import FP32_PARITY
from tests.commands import invoke
from tests.conftest import TINY_CONFIG
from tests.random_models import random_vae

HUGE = (5000, 8000)
PORTRAIT, LANDSCAPE, SQUARE = (504, 376), (376, 504), (504, 504)
WIDTHS = {(256, width): 1 for width in range(256, 409, 8)}


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({}, []),
        ({LANDSCAPE: 11}, [LANDSCAPE]),
        # 129,024 pixels of padding cost less than a second program, and many times that do not.
        ({LANDSCAPE: 1, PORTRAIT: 1}, [SQUARE]),
        ({LANDSCAPE: 9, PORTRAIT: 9}, [LANDSCAPE, PORTRAIT]),
        ({(64, 64): 1, (8, 504): 1, (504, 8): 1}, [(8, 504), (504, 64)]),
        ({HUGE: 1, LANDSCAPE: 1, (384, 512): 1}, [(384, 512), HUGE]),
        ({HUGE: 1, HUGE[::-1]: 1}, [HUGE, HUGE[::-1]]),
        (WIDTHS, [(256, 408)]),
        (dict.fromkeys(WIDTHS, 4), [(256, 328), (256, 408)]),
    ],
)
def test_sizes_share_programs_where_that_costs_least(
    counts: dict[tuple[int, int], int], expected: list[tuple[int, int]]
) -> None:
    groups = divided(counts, ON_CPU)
    assert sorted(map(bucket, groups)) == sorted(expected)
    assert Counter(size for group in groups for size in group) == Counter([*counts])


def test_an_accelerator_compiles_less_and_no_image_is_padded_by_a_megapixel() -> None:
    sizes = dict.fromkeys(WIDTHS, 4)
    assert [*map(bucket, divided(sizes, ELSEWHERE))] == [(256, 408)]
    groups = divided({**sizes, (1000, 2000): 1, (1000, 1400): 1, HUGE: 1}, ELSEWHERE)
    assert sorted(map(bucket, groups)) == [(256, 408), (1000, 2000), HUGE]


def test_no_more_programs_are_shared_than_a_codec_keeps() -> None:
    sides = range(256, 352, 8)
    sizes = dict.fromkeys(itertools.product(sides, sides), 50)
    assert sum(len(group) > 1 for group in divided(sizes, ON_CPU)) > EXECUTABLES
    shared = shared_programs(sizes, ON_CPU)
    assert 8 < len(shared) <= EXECUTABLES


def test_sizes_are_padded_to_multiples_of_the_downsampling(golden_vae: AuraEquiVAE) -> None:
    buckets = {
        (): [],
        ((500, 375),): [],
        ((500, 375), (499, 371), (5, 700)): [],  # an image of 5 rows will be skipped
        ((500, 375), (375, 500), (375, 500)): [(504, 504)],
    }
    assert {sizes: FittedCodec(golden_vae, sizes).buckets for sizes in buckets} == buckets


def test_results_are_those_of_the_codec(tiny_vae: AuraEquiVAE) -> None:
    """Sizes that no bucket was chosen for are run by the codec itself."""
    fitted, plain = FittedCodec(tiny_vae, [(24, 32), (32, 24)]), Codec(tiny_vae)
    x = np.random.default_rng(0).uniform(-1, 1, (1, 24, 32, 3)).astype(np.float32)
    z, expected = fitted.encode(x), plain.encode(x)
    assert relative_error(np.asarray(z), np.asarray(expected)) <= FP32_PARITY
    other = FittedCodec(tiny_vae, [(64, 32), (32, 64)])
    np.testing.assert_array_equal(other.encode(x), expected)


def run(words: list[object], weights: Path) -> None:
    invoke(app, *words, "--weights", weights)


def test_the_commands_run_images_of_three_sizes_in_one_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is compiled here: results are zeros of the shapes that the programs have."""
    shapes: set[tuple[str, tuple[int, ...]]] = set()

    def compiled(program: Program, shape: tuple[int, ...]) -> Any:
        shapes.add((program.name, shape))

        def zeros(weights: Any, x: Any) -> jax.Array:
            y = jax.eval_shape(program._function, weights, x)
            return jax.device_put(np.zeros(y.shape, y.dtype))

        return zeros

    monkeypatch.setattr(Program, "compile", compiled)
    weights, z, grid = tmp_path / "tiny", tmp_path / "z.st", tmp_path / "grid.png"
    aura_jax.save(random_vae(TINY_CONFIG), weights)
    photos = tmp_path / "photos"
    photos.mkdir()
    for i, size in enumerate(((23, 31), (31, 23), (25, 9))):
        Image.new("RGB", size, (90, 120, 30)).save(photos / f"{i}.png")
    encoding, decoding = ("images", (1, 33, 33, 3)), ("latents", (1, 17, 17, 16))
    levels = ("images", (1, 32, 32, 3))
    for words, programs in (
        (["encode", photos, "--out", z], {encoding}),
        (["decode", z, "--out", tmp_path / "decoded"], {decoding, levels}),
        (["reconstruct", photos, "--out", grid], {encoding, decoding, levels}),
    ):
        shapes.clear()
        run(words, weights)
        assert shapes == programs, words
    shapes.clear()
    run(["encode", photos, "--size", 8, "--overwrite", "--out", z], weights)
    assert shapes == {("images", (1, 8, 8, 3))}
    assert [latent.values.shape for latent in read_latents(z).latents.values()] == 3 * [(4, 4, 16)]


def test_sizes_come_from_headers_and_leave_errors_for_later(tmp_path: Path) -> None:
    Image.new("L", (30, 20)).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(data[:-30])  # whole up to the pixels
    (tmp_path / "text.png").write_text("hello")
    os.mkfifo(tmp_path / "pipe.png")
    names = ("a.png", "cut.png", "text.png", "pipe.png", "missing.png")
    files = [ImageFile(tmp_path / name) for name in names]
    assert inputs.sizes(files, Decoding(), None) == 2 * [(20, 30)]
    assert inputs.sizes(files, Decoding(max_pixels=599), None) == []
    assert inputs.sizes(files, Decoding(), 8) == inputs.sizes(files[:1], Decoding(), None) == []
    with pytest.raises(ImageError, match="missing"):
        files[-1].image_size()

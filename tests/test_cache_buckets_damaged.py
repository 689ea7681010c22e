"""Damaged caches of several aspect ratios, and images that change while one is made."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from aura_jax.errors import AuraError, CacheError
from aura_jax.latents import LatentSource, RandomFlip, workspace
from aura_jax.latents.buckets import Bucket
from aura_jax.latents.measure import measure
from aura_jax.latents.verify import check_sample
from tests.bucket_folder import OPTIONS, bucketed, shapes
from tests.cache_folder import contents, fake_encoder, make, manifest_of, weights

__all__ = ["bucketed", "shapes", "weights"]  # fixtures


def write_turnable(folder: Path) -> Path:
    """Write images whose files have as many bytes after a quarter turn."""
    folder.mkdir(parents=True)
    for i, size in enumerate([(40, 40), (96, 24), (40, 40), (24, 96), (32, 32)]):
        Image.new("RGB", size, (50 * i, 90, 20)).save(folder / f"{i}.bmp")
    return folder


def damaged(bucketed: Path, name: str, change: Callable[[dict], Any]) -> Path:
    """Copy a cache, at the same distance from the images, and change its manifest."""
    copy = bucketed.parent / name
    shutil.copytree(bucketed, copy)
    document = manifest_of(copy)
    change(document)
    (copy / "manifest.json").write_text(json.dumps(document))
    return copy


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"buckets": [[8, 24], [16, 16], [24, 8], [0, 8]]}, "images of 8x0: expected sides from 1"),
        ({"buckets": [[8, 24], [16, 16], [24, 8], [8, -8]]}, "images of -8x8: expected sides from"),
        ({"buckets": [[8, 24], [16, 16], [24, 8], [2**40, 8]]}, "images of 8x1099511627776: expec"),
        ({"height": 16}, "a height or width beside buckets"),
        ({"height": 2**63, "width": 16, "buckets": []}, "images of 16x9223372036854775808: expec"),
    ],
)
def test_sizes_that_no_images_have(
    bucketed: Path, tmp_path: Path, spec: dict[str, Any], message: str
) -> None:
    copy = damaged(bucketed, tmp_path.name, lambda document: document["spec"].update(spec))
    with pytest.raises(CacheError, match=message):
        LatentSource(copy)


def test_more_latents_than_images(bucketed: Path, tmp_path: Path) -> None:
    copy = damaged(
        bucketed, tmp_path.name, lambda document: document["shards"][0].update(count=2**40)
    )
    with pytest.raises(
        CacheError, match="counts 1099511627784 latents of 9 images; aura-jax cache"
    ):
        measure(LatentSource(copy), lambda count: None)


@pytest.mark.parametrize(
    "change",
    [
        lambda shards: shards[0].update(file="00000-16x24.arrayrecord"),
        lambda shards: shards[0].update(file="00000.arrayrecord"),
        lambda shards: shards[1].update(parts=9),
        lambda shards: [shard.update(size=None) for shard in shards],
    ],
    ids=["another bucket's name", "a name without bucket", "parts", "no sizes"],
)
def test_damaged_entries_are_made_again(
    bucketed: Path, shapes: Path, weights: Path, tmp_path: Path, change: Callable[[list], Any]
) -> None:
    copy = damaged(bucketed, tmp_path.name, lambda document: change(document["shards"]))
    assert make(shapes, copy, weights, **OPTIONS) is not None
    assert contents(copy) == contents(bucketed)


@pytest.mark.parametrize("notes", [0, 1, 2])
def test_an_image_that_is_turned_before_it_resumes(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, notes: int
) -> None:
    """The file keeps its number of bytes, so the cache resumes; the image has another bucket."""
    photos, out, steps = (
        write_turnable(tmp_path / "photos"),
        tmp_path / "latents",
        iter(range(notes)),
    )
    whole = workspace.write_json

    def write(*words: Any) -> None:
        if next(steps, None) is None:
            raise KeyboardInterrupt
        whole(*words)

    monkeypatch.setattr(workspace, "write_json", write)
    with pytest.raises(KeyboardInterrupt):
        make(photos, out, weights, **OPTIONS)
    monkeypatch.undo()
    image = Image.open(photos / "1.bmp").transpose(Image.Transpose.ROTATE_90)
    image.save(photos / "1.bmp")
    make(photos, out, weights, **OPTIONS)
    make(photos, out.with_name("uninterrupted"), weights, **OPTIONS)
    assert contents(out) == contents(out.with_name("uninterrupted"))


def test_another_shape_of_the_same_ratio_is_verified(weights: Path, tmp_path: Path) -> None:
    photos, out = write_turnable(tmp_path / "photos"), tmp_path / "latents"
    make(photos, out, weights, **OPTIONS)
    Image.open(photos / "0.bmp").resize((80, 80)).save(photos / "0.bmp")
    with pytest.raises(CacheError, match="0: the image has another size now"):
        check_sample(LatentSource(out), 5, str(weights), [photos], fake_encoder)


def test_changed_buckets_are_named_as_in_the_command(
    bucketed: Path, shapes: Path, weights: Path
) -> None:
    with pytest.raises(CacheError, match=r'buckets: "24x8, 16x16, 8x24" before, "16x16" now'):
        make(shapes, bucketed, weights, size=None, buckets=[Bucket(16, 16)])


def test_crops_of_other_forms() -> None:
    latent, rng = np.ones((2, 3, 16)), np.random.default_rng(0)
    flipped = RandomFlip(1.0, 0.0)({"latent": latent, "crop": [1, 2, 3, 4]}, rng)
    assert flipped["crop"].tolist() == [1, 4, 3, 2]
    for crop in (None, "left", [1, 2], np.ones((4, 2))):
        with pytest.raises(AuraError, match=r"expected \[top, left, bottom, right\]"):
            RandomFlip()({"latent": latent, "crop": crop}, rng)

"""Caches of several aspect ratios: each image in the nearest bucket, each file of one size."""

import contextlib
import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aura_jax.errors import CacheError
from aura_jax.latents import LatentSource, RandomFlip, executors, shard_file, workspace
from aura_jax.latents.buckets import Bucket, of_area
from aura_jax.latents.measure import measure
from aura_jax.latents.verify import check_sample, check_shards
from aura_jax.symmetry import flip_latents
from tests.bucket_folder import BUCKETS, OPTIONS, SIZES, bucketed, shapes, write_shapes
from tests.cache_folder import (
    cache,
    contents,
    fake_encoder,
    finished,
    local,
    make,
    manifest_of,
    weights,
    write_tar,
)
from tests.photo_folder import write_photos

__all__ = ["bucketed", "shapes", "weights"]  # fixtures


def test_each_image_is_in_a_file_of_its_bucket(bucketed: Path) -> None:
    source = LatentSource(bucketed)
    names = [shard.file for shard in source.manifest.shards]
    assert names == [
        *(f"00000-{bucket}.arrayrecord" for bucket in ("24x8", "16x16", "8x24")),
        *(f"00001-{bucket}.arrayrecord" for bucket in ("24x8", "16x16")),
        "00002-8x24.arrayrecord",
    ]
    assert [sample["key"] for sample in source] == ["1", "0", "2", "3", "5", "6", "4", "7", "8"]
    assert source.manifest.buckets == {Bucket(8, 24): 3, Bucket(16, 16): 4, Bucket(24, 8): 2}
    for sample, size in zip(source, source.sizes, strict=True):
        assert sample["size"].tolist() == size.tolist()
        assert sample["latent"].shape == (*(size // 2), 16)
        assert tuple(sample["original_size"]) == SIZES[int(sample["key"])]


def test_the_place_of_the_crop_is_stored_in_pixels_of_the_scaled_image(bucketed: Path) -> None:
    samples = {sample["key"]: sample for sample in LatentSource(bucketed)}
    # 44 x 40 is scaled by 16 / 40 to 17.6 x 16; 80 x 30 by 8 / 30, of which 21.33 is too low, so by
    # 24 / 80 to 24 x 9.
    assert samples["2"]["crop"] == pytest.approx([0.8, 0, 0.8, 0], abs=0.01)
    assert samples["8"]["crop"] == pytest.approx([0, 0.5, 0, 0.5], abs=0.01)
    assert samples["8"]["crop"].dtype == np.float32
    assert samples["0"]["crop"].tolist() == [0, 0, 0, 0]


def test_flips_exchange_the_sides_of_the_crop() -> None:
    sample = {"latent": np.ones((2, 3, 16)), "crop": np.array([1, 2, 3, 4], np.float32)}
    rng = np.random.default_rng(0)
    for horizontal, vertical, right in [
        (1, 0, [1, 4, 3, 2]),
        (0, 1, [3, 2, 1, 4]),
        (1, 1, [3, 4, 1, 2]),
        (0, 0, [1, 2, 3, 4]),
    ]:
        flipped = RandomFlip(float(horizontal), float(vertical))(sample, rng)
        assert flipped["crop"].tolist() == right
        assert flipped["crop"].dtype == np.float32
    assert "crop" not in RandomFlip(1.0, 1.0)({"latent": sample["latent"]}, rng)


def test_the_latents_are_those_of_the_image_alone(
    bucketed: Path, shapes: Path, weights: Path
) -> None:
    """Images of other sizes in the same shard and batch change nothing."""
    source = LatentSource(bucketed)
    encode = fake_encoder(source.manifest.spec, "", 1)
    for sample in source:
        image = Image.open(shapes / f"{sample['key']}.png").convert("RGB")
        height, width = sample["size"].tolist()
        top, left, _, _ = sample["crop"].tolist()
        scale = (height + 2 * top) / image.height
        box = (left / scale, top / scale, image.width - left / scale, image.height - top / scale)
        pixels = np.asarray(image.resize((width, height), Image.Resampling.LANCZOS, box))
        np.testing.assert_allclose(sample["latent"], encode(pixels[None])[0], atol=0.05)


def test_killed_between_any_two_steps_it_resumes_and_ends_the_same(
    bucketed: Path, shapes: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    out = bucketed.parent / tmp_path.name  # at the same distance from the images
    for module in (shard_file, workspace):
        name = "replacing" if module is shard_file else "write_json"
        whole = getattr(module, name)
        for last in range(7):
            calls = iter(range(last))

            def counted(*words, calls=calls, whole=whole):
                if next(calls, None) is None:
                    raise Killed
                return whole(*words)

            monkeypatch.setattr(module, name, counted)
            with contextlib.suppress(Killed):
                make(shapes, out, weights, **OPTIONS)
            monkeypatch.setattr(module, name, whole)
        make(shapes, out, weights, **OPTIONS)
        assert contents(out) == contents(bucketed)
        shutil.rmtree(out)


def test_a_missing_file_is_made_again(bucketed: Path, shapes: Path, weights: Path) -> None:
    before = contents(bucketed)
    (bucketed / "00000-16x16.arrayrecord").unlink()
    make(shapes, bucketed, weights, **OPTIONS)
    assert contents(bucketed) == before


def test_jobs_make_the_same_cache(bucketed: Path, shapes: Path, weights: Path) -> None:
    out = bucketed.with_name("jobs")
    manifests = [make(shapes, out, weights, **OPTIONS, job=(i, 2)) for i in (1, 0)]
    assert manifests[0] is None
    assert contents(out) == contents(bucketed)


def test_it_is_verified_and_measured(bucketed: Path, shapes: Path, weights: Path) -> None:
    source = LatentSource(bucketed)
    check_shards(source, lambda count: None)
    assert check_sample(source, 9, str(weights), [shapes], fake_encoder) == 0
    statistics = measure(source, lambda count: None)
    flips = [
        flip_latents(sample["latent"], horizontal=h, vertical=v).reshape(-1, 16)
        for sample in source
        for h in (False, True)
        for v in (False, True)
    ]
    np.testing.assert_allclose(statistics.mean, np.concatenate(flips).mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(statistics.std, np.concatenate(flips).std(axis=0), rtol=1e-5)


def test_a_file_in_the_place_of_another_bucket_is_found(bucketed: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(bucketed, copy)
    document = manifest_of(copy)
    shards = document["shards"]
    shards[0]["size"], shards[1]["size"] = shards[1]["size"], shards[0]["size"]
    (copy / "manifest.json").write_text(json.dumps(document))
    with pytest.raises(CacheError, match=r"record 0: bfloat16 of shape \(4, 12, 16\), expected"):
        check_shards(LatentSource(copy), lambda count: None)
    shards[0]["size"] = [40, 40]
    (copy / "manifest.json").write_text(json.dumps(document))
    with pytest.raises(CacheError, match=r"its size, 40x40, is not a bucket"):
        LatentSource(copy)


def test_tars_make_a_file_for_each_bucket(shapes: Path, weights: Path, tmp_path: Path) -> None:
    members = {f"{i}.png": (shapes / f"{i}.png").read_bytes() for i in range(5)}
    tars = [write_tar(tmp_path / "a.tar", members)]
    tars.append(write_tar(tmp_path / "b.tar", {f"b{name}": x for name, x in members.items()}))
    out = tmp_path / "latents"
    manifest = finished(tars, out, weights, **OPTIONS, format="webdataset")
    assert Counter(shard.source for shard in manifest.shards) == {"a.tar": 3, "b.tar": 3}
    check_shards(LatentSource(out), lambda count: None)


def test_images_that_fit_no_bucket_are_skipped(weights: Path, tmp_path: Path) -> None:
    photos = write_shapes(tmp_path / "photos")
    Image.new("RGB", (400, 10)).save(photos / "panorama.png")
    Image.new("RGB", (10, 400)).save(photos / "tower.png")
    manifest = finished(photos, tmp_path / "latents", weights, **OPTIONS)
    assert manifest.skipped == {
        "panorama": "of 400 x 10 pixels: the bucket with the nearest ratio, 24x8, would leave less "
        "than half of it",
        "tower": "of 10 x 400 pixels: the bucket with the nearest ratio, 8x24, would leave less "
        "than half of it",
    }
    check_shards(LatentSource(tmp_path / "latents"), lambda count: None)


def test_ratios_that_no_image_fits(weights: Path, tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 3)
    with pytest.raises(
        CacheError, match=r"none of the images could be cached; the first are\n  000: of"
    ):
        make(photos, tmp_path / "latents", weights, size=None, buckets=[Bucket(8, 80)])


def test_other_buckets_do_not_resume(bucketed: Path, shapes: Path, weights: Path) -> None:
    before = contents(bucketed)
    for options, said in [
        ({"size": None, "buckets": BUCKETS[:2]}, r'buckets: "24x8, 16x16, 8x24" before'),
        ({"size": 16, "buckets": []}, r"height: null before, 16 now"),
    ]:
        with pytest.raises(CacheError, match=said):
            make(shapes, bucketed, weights, **options)
    assert contents(bucketed) == before
    make(shapes, bucketed, weights, size=None, buckets=BUCKETS[::-1])  # in any order
    assert contents(bucketed) == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--area", "256"], "--aspect-ratios and --area go together"),
        (["--aspect-ratios"], "--aspect-ratios and --area go together"),
        (["--area", "100", "--aspect-ratios"], "--area 100: expected the side of a square"),
        (["--bucket", "64x64", "--area", "64", "--aspect-ratios"], "--bucket names sizes"),
        (["--bucket", "wide"], "--bucket wide: expected WIDTHxHEIGHT"),
        (["--bucket", "9x9"], "--bucket 9x9: expected positive multiples of 2"),
        (["--bucket", "64x64", "--bucket", "64x64"], "--bucket 64x64: given twice"),
        (["--area", "64", "--aspect-ratios", "--size", "64"], "--size 64: cannot be combined"),
    ],
)
def test_options_that_do_not_fit(
    words: list[str], message: str, shapes: Path, weights: Path, tmp_path: Path
) -> None:
    with pytest.raises(CacheError) as error:
        cache("make", shapes, "--out", tmp_path / "latents", "--weights", weights, *words)
    assert str(error.value).startswith(message)
    assert not (tmp_path / "latents").exists()


def test_the_commands_show_the_distribution(
    shapes: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(executors.EXECUTORS, "local", local())
    out = tmp_path / "latents"
    words = ["--area", "64", "--aspect-ratios", "--per-shard", "6"]
    said = cache("make", shapes, "--out", out, "--weights", weights, *words)
    distribution = (
        "latents by width x height (ratio): "
        "32x104 (0.31): 1; 40x96 (0.42): 1; 64x64 (1.00): 4; 96x40 (2.40): 3"
    )
    assert "9 latents in 6 shards" in said
    assert distribution in said
    assert LatentSource(out).manifest.spec.buckets == tuple(sorted(of_area(64)))
    assert distribution in cache("stats", out)
    buckets = json.loads(cache("stats", out, "--json"))["buckets"]
    assert buckets["64x64"] == 4
    assert sum(buckets.values()) == 9
    assert "all whole" in cache("verify", out, "--sample", 0)

"""The formats and dtypes of caches hold the same latents."""

import gc
import json
from pathlib import Path

import numpy as np
import pytest
import webdataset.compat

from aura_jax.latents import LatentSource, from_bytes
from aura_jax.latents.spec import STORAGE_DTYPES
from tests.cache_folder import (
    finished,
    photos,
    weights,
    write_tar,
)
from tests.photo_folder import write_photos

__all__ = ["photos", "weights"]  # fixtures


def test_tars_carry_their_labels_over(tmp_path: Path, weights: Path) -> None:
    images = [p.read_bytes() for p in sorted(write_photos(tmp_path / "p", 4).iterdir())]
    first = write_tar(
        tmp_path / "a.tar",
        {
            "a/0.png": images[0],
            "a/0.cls": b"-7\n",
            "a/0.json": b'{"label": 3, "url": "x"}',
            "a/1.json": b'{"label": 4}',
            "a/1.png": images[1],
        },
    )
    second = write_tar(
        tmp_path / "b.tar",
        {
            "2.seg.npy": b"?",
            "2.txt": "a caption, é".encode(),
            "2.png": images[2],
            "3.png": images[3],
            "3.cls": b"3.5",
        },
    )
    finished([first, second], tmp_path / "out", weights)
    source = LatentSource(tmp_path / "out")
    about = [{k: v for k, v in source[i].items() if k != "latent"} for i in range(len(source))]
    assert about == [
        {"key": "a/0", "label": -7, "cls": -7, "json": {"label": 3, "url": "x"}},
        {"key": "a/1", "label": 4, "json": {"label": 4}},
        {"key": "2", "label": "a caption, é", "txt": "a caption, é"},
        {"key": "3", "label": "3.5", "cls": "3.5"},
    ]
    assert [shard.source for shard in source.manifest.shards] == ["a.tar", "b.tar"]


@pytest.mark.parametrize("dtype", STORAGE_DTYPES, ids=str)
def test_both_formats_hold_the_same(
    tmp_path: Path, photos: Path, weights: Path, dtype: np.dtype
) -> None:
    finished(photos, tmp_path / "records", weights, storage_dtype=dtype)
    finished(photos, tmp_path / "tars", weights, storage_dtype=dtype, format="webdataset")
    records, tars = LatentSource(tmp_path / "records"), LatentSource(tmp_path / "tars")
    for i in range(11):
        values, about = records.stored(i)
        assert values.dtype == dtype
        assert tars.stored(i)[1] == about
        np.testing.assert_array_equal(tars.stored(i)[0], values)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_webdataset_itself_reads_the_tars(tmp_path: Path, weights: Path) -> None:
    folder = write_photos(tmp_path / "photos", 3)
    (folder / "000.png").rename(folder / "v1.0.png")  # a dot, which would end WebDataset's key
    (folder / "001.png").rename(folder / "v1.1.png")
    out = tmp_path / "tars"
    finished(folder, out, weights, format="webdataset")
    read = webdataset.compat.WebDataset(str(out / "00000.tar"), shardshuffle=False)
    samples = [(from_bytes(s["safetensors"]), json.loads(s["json"])) for s in read]
    del read
    gc.collect()  # it leaves its file to the collector, which warns
    source = LatentSource(out)
    assert [sample["key"] for sample, _ in samples] == ["002", "v1.0", "v1.1"]
    for i, (sample, about) in enumerate(samples):
        np.testing.assert_array_equal(sample["latent"], source[i]["latent"])
        assert about == {"key": sample["key"]}


def test_the_cost_of_each_dtype(photos: Path, tmp_path: Path, weights: Path) -> None:
    """Steps are relative for floats and 8/127 for int8, so errors are half of that at most."""
    exact = tmp_path / "float32"
    finished(photos, exact, weights, storage_dtype="float32")
    limits = {"bfloat16": (2**-8, 0), "int8": (0, 4 / 127)}
    for dtype, (relative, absolute) in limits.items():
        finished(photos, tmp_path / dtype, weights, storage_dtype=dtype)
        pairs = zip(LatentSource(exact), LatentSource(tmp_path / dtype), strict=True)
        for z, rounded in ((a["latent"], b["latent"]) for a, b in pairs):
            error = np.abs(rounded - z)
            assert (error <= relative * np.abs(z) + absolute + 1e-6).all()
            assert error.max() > 0

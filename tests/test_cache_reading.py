"""Reading and verifying: damage is named, wherever it is."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch.utils.data

from aura_jax.errors import CacheError
from aura_jax.latents import LatentSource, RandomFlip
from tests.cache_folder import (
    cache,
    contents,
    finished,
    made,
    manifest_of,
    photos,
    weights,
)
from tests.conftest import ROOT

__all__ = ["made", "photos", "weights"]  # fixtures


def test_damaged_manifests(tmp_path: Path, made: Path) -> None:
    """Each gets one sentence that names the file, and where it can, the entry."""
    with pytest.raises(CacheError, match=r"not a finished cache of latents"):
        LatentSource(tmp_path)
    manifest = manifest_of(made)
    spec, environment, shard = manifest["spec"], manifest["environment"], manifest["shards"][0]
    for change, entry in (
        ({"version": 0}, "version"),
        ({"version": "2"}, "version"),
        ({"version": float("nan")}, ""),
        ({"spec": None}, "spec"),
        ({"spec": {k: v for k, v in spec.items() if k != "config"}}, "spec"),
        ({"spec": spec | {"config": {"ch": 5}}}, "spec.config"),
        ({"spec": spec | {"storage_dtype": "int4"}}, "spec.storage_dtype"),
        ({"spec": spec | {"compute_dtype": "int8"}}, "spec"),
        ({"spec": spec | {"format": "zip"}}, "spec.format"),
        ({"spec": spec | {"height": "16"}}, "spec.height"),
        ({"spec": spec | {"per_shard": 0}}, "spec"),
        ({"environment": environment | {"batch": 0}}, "environment.batch"),
        ({"origin": {"weights": "small", "images": [1]}}, "origin.images[0]"),
        ({"shards": [{"file": "x"}]}, "shards[0]"),
        ({"shards": [shard | {"count": -4}]}, "shards[0].count"),
        ({"shards": [shard | {"count": True}]}, "shards[0].count"),
        ({"shards": [shard | {"file": None}]}, "shards[0].file"),
        ({"shards": [shard | {"skipped": []}]}, "shards[0].skipped"),
        ({"statistics": {"mean": [1]}}, "statistics"),
    ):
        (tmp_path / "manifest.json").write_text(json.dumps(manifest | change))
        with pytest.raises(
            CacheError, match=r"manifest\.json: cannot be read \(.*\); restore"
        ) as e:
            LatentSource(tmp_path)
        assert entry in str(e.value)
        assert "\n" not in str(e.value)
    for data in (b"{", b"[]", b"{}", b"\xff", b"[" * 100_000):
        (tmp_path / "manifest.json").write_bytes(data)
        with pytest.raises(CacheError, match="cannot be read"):
            LatentSource(tmp_path)


def test_manifests_of_other_versions(tmp_path: Path, made: Path) -> None:
    for version, message in (
        (1, r"manifest\.json: version 1, made by an earlier aura-jax; make the cache again"),
        (3, r"version 3, but this aura-jax reads version 2; update it"),
    ):
        (tmp_path / "manifest.json").write_text(json.dumps({"version": version}))
        with pytest.raises(CacheError, match=message):
            LatentSource(tmp_path)


READER = """
import sys
for name in ("jax", "flax", "typer", "grain", "rich"):
    sys.modules[name] = None
import numpy as np
import aura_jax.latents
from aura_jax.latents import LatentSource, RandomFlip, from_bytes, normalize
source, flip = LatentSource(sys.argv[1]), RandomFlip(p_horizontal=1.0)
sample = flip(source[3], np.random.default_rng(0))
signs = [1] * 12 + [-1, -1, 1, 1]
expected = source[3]["latent"][:, ::-1] * np.array(signs, np.float32)
assert np.array_equal(sample["latent"], expected)
assert sample["key"] == "cats/003"
z = normalize(sample["latent"], source.statistics)
assert z.dtype == np.float32 and abs(z).max() < 20
for latents in ([1.0], z):
    try:
        normalize(latents, None)
    except aura_jax.AuraError as error:
        print(error)
"""


def test_reading_needs_neither_jax_nor_grain(measured: Path) -> None:
    """The workers of a PyTorch DataLoader need this."""
    result = subprocess.run(
        [sys.executable, "-c", READER, measured],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == [
        "latents: expected a jax or numpy array, got a list",
        "statistics: expected a model, its latent_stats or LatentSource.statistics, got None",
    ]


@pytest.fixture(scope="module")
def measured(made: Path) -> Path:
    """A copy of the cache with statistics."""
    out = made.parent / "measured"
    out.mkdir()
    for name, data in contents(made).items():
        (out / name).write_bytes(data)
    cache("stats", out)
    return out


class Flipped(torch.utils.data.Dataset):
    """Samples, each flipped: a data set as PyTorch's workers take it."""

    def __init__(self, source: LatentSource):
        self.source, self.flip = source, RandomFlip(p_horizontal=1.0)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Any:
        return self.flip(self.source[index], np.random.default_rng(index))["latent"]


@pytest.mark.filterwarnings("ignore:.*fork.*")
def test_pytorchs_workers_read_it(made: Path) -> None:
    """They can also be forked from a process that has already read from it."""
    source = LatentSource(made)
    expected = np.stack([Flipped(source)[i] for i in range(11)])
    loader = torch.utils.data.DataLoader(
        Flipped(source), batch_size=4, num_workers=2, multiprocessing_context="fork", timeout=60
    )
    np.testing.assert_array_equal(torch.cat([*loader]).numpy(), expected)


def test_a_truncated_shard_names_the_record(tmp_path: Path, made: Path) -> None:
    for name, data in contents(made).items():
        (tmp_path / name).write_bytes(data)
    os.truncate(tmp_path / "00001.arrayrecord", 70_000)
    source = LatentSource(tmp_path)
    assert source[0]["key"] == "cats/000"  # others can be read
    with pytest.raises(CacheError, match=r"00001\.arrayrecord, record 2: cannot be read .*verify"):
        source[6]
    (tmp_path / "00002.arrayrecord").write_bytes(os.urandom(200_000))
    with pytest.raises(CacheError, match=r"00002\.arrayrecord, record 0: cannot be read"):
        source[8]


def test_a_truncated_tar_names_the_record(tmp_path: Path, photos: Path, weights: Path) -> None:
    out = tmp_path / "tars"
    finished(photos, out, weights, format="webdataset")
    os.truncate(out / "00000.tar", 5000)
    with pytest.raises(CacheError, match=r"00000\.tar, record 3: cannot be read"):
        LatentSource(out)[3]


@pytest.mark.parametrize("index", [1, -10, True, np.int64(1), np.uint8(1)])
def test_a_sample_is_indexed_by_any_integer(made: Path, index: Any) -> None:
    assert LatentSource(made)[index]["key"] == "cats/001"


INDEXED = """
import sys
from aura_jax.latents import LatentSource
source = LatentSource(sys.argv[1])
for index in (1.0, "1", None, slice(2)):
    try:
        source[index]
    except TypeError:
        continue
    sys.exit(f"{index!r}")
"""


def test_a_sample_is_indexed_by_integers_alone(made: Path) -> None:
    """In a process without jaxtyping's checks, which raise TypeError too."""
    subprocess.run([sys.executable, "-c", INDEXED, str(made)], check=True, cwd=ROOT)

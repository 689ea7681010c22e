"""Latent files: what is written is read, and what was not written so is refused."""

import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from aura_jax import AuraConfig, CheckpointError
from aura_jax.photo_latents import Latent, LatentFile, read_latents, write_latents

CONFIG = AuraConfig()
VALUES = np.random.default_rng(0).normal(size=(2, 3, 16)).astype(ml_dtypes.bfloat16)
ABOUT = {"config": json.loads(CONFIG.to_json()), "boxes": {"a": [0, 0, 20, 9]}}


def test_there_and_back(tmp_path: Path):
    latents = {"a": Latent(VALUES, (0, 0, 20, 9)), "b": Latent(VALUES[:1], (1, 2, 3, 4))}
    for i in range(8):
        write_latents(tmp_path / str(i), LatentFile(latents, CONFIG, "0a" * 32))
        file = read_latents(tmp_path / str(i))
        read = file.latents
        assert (file.config, file.weights) == (CONFIG, "0a" * 32)
        assert {name: z.box for name, z in read.items()} == {"a": (0, 0, 20, 9), "b": (1, 2, 3, 4)}
        assert read["a"].values.dtype == VALUES.dtype
        np.testing.assert_array_equal(read["a"].values, VALUES)
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1


def test_the_box_moves_with_the_flip():
    flipped = Latent(VALUES, (0, 0, 20, 9)).flipped({"horizontal": True, "vertical": True}, 8)
    assert flipped.box == (4, 7, 24, 16)
    pixels = np.arange(16 * 24).reshape(16, 24, 1)
    np.testing.assert_array_equal(flipped.cut(pixels[::-1, ::-1]), pixels[:9, :20][::-1, ::-1])


@pytest.mark.parametrize(
    ("values", "about", "message"),
    [
        (VALUES, {}, "'config'"),
        (VALUES, {**ABOUT, "weights": "\x1b[31m"}, "its fingerprint of weights is not a sha256"),
        (VALUES, {**ABOUT, "weights": ["0a"]}, "expected string"),
        (VALUES, {**ABOUT, "boxes": {}}, "'a'"),
        (VALUES, {**ABOUT, "boxes": {"a": [0, 0, 25, 9]}}, "does not lie in an image of 24 x 16"),
        (VALUES, {**ABOUT, "boxes": {"a": [0, 0]}}, "not enough values"),
        (VALUES, {**ABOUT, "boxes": {"a": [0, 0, 20.5, 9]}}, "expected integers"),
        (VALUES, {**ABOUT, "boxes": {"a": [0, 0, float("inf"), 9]}}, "expected integers"),
        (VALUES, {**ABOUT, "boxes": {"a": "0088"}}, "expected integers"),
        (VALUES, {**ABOUT, "config": {"num_res_blocks": 10**6}}, "over 8 levels or 16 blocks"),
        (VALUES, {**ABOUT, "config": {"ch": 3}}, "width 3 is not a multiple"),
        (VALUES[None], ABOUT, r"shape \(1, 2, 3, 16\), expected \[height, width, 16\]"),
        (VALUES[..., :4], ABOUT, r"shape \(2, 3, 4\)"),
        (VALUES.astype(np.int32), ABOUT, "I32 values, expected BF16, F16, F32"),
        (np.full_like(VALUES, np.inf), ABOUT, "NaN or infinite values"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, values: np.ndarray, about: dict, message: str):
    path = tmp_path / "file"
    save_file({"a": np.ascontiguousarray(values)}, path, {"latents": json.dumps(about)})
    with pytest.raises(CheckpointError, match=f"file: not latents as .*{message}"):
        read_latents(path)
    save_file({}, path, {"latents": json.dumps(ABOUT)})
    with pytest.raises(CheckpointError, match="it holds none"):
        read_latents(path)
    save_file({"a": VALUES}, path, {"latents": "[" * 100_000})
    with pytest.raises(CheckpointError, match="not latents as"):
        read_latents(path)
    save_file({"a": VALUES}, path)
    with pytest.raises(CheckpointError, match="not latents as `aura-jax encode` writes them"):
        read_latents(path)

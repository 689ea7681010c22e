"""The example that trains on cached latents, with few images, few steps and a small network."""

import importlib.util
import re
import sys
from itertools import islice
from pathlib import Path
from types import ModuleType

import jax
import numpy as np
import pytest
from PIL import Image

import aura_jax
from aura_jax.cli.app import app
from aura_jax.images.quality import psnr
from aura_jax.images.transforms import to_uint8
from aura_jax.latents import LatentSource, normalize
from aura_jax.symmetry import flip_images, flip_latents
from tests.commands import invoke
from tests.conftest import ROOT
from tests.photo_folder import read_image

SCRIPT = ROOT / "examples" / "flow_on_latents.py"
KINDS, IMAGES, STEPS = ("ball", "block", "cone"), 3, 40
CONSTANTS = {"WIDTH": 32, "DEPTH": 1, "BATCH": 8, "EULER_STEPS": 2, "SHOWN": 3}


@pytest.fixture(scope="module")
def example() -> ModuleType:
    """The script as a module, with a smaller network and fewer samples."""
    spec = importlib.util.spec_from_file_location("flow_on_latents", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name, value in CONSTANTS.items():
        assert hasattr(module, name)
        setattr(module, name, value)
    return module


@pytest.fixture(scope="module")
def out(example: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the example wrote under JAX's own settings, with what it printed."""
    out = tmp_path_factory.mktemp("flow") / "out"
    words = ["--out", str(out), "--images", str(IMAGES), "--steps", str(STEPS)]
    said: list[str] = []

    def run(command: list[str], *, check: bool) -> None:
        """Run the command in this process, which has imported everything."""
        assert command[:3] == [sys.executable, "-m", "aura_jax"]
        assert check
        invoke(app, *command[3:])

    with jax.numpy_rank_promotion("allow"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(example.subprocess, "run", run)
        patch.setattr(sys, "argv", ["flow_on_latents.py", *words])
        patch.setattr("builtins.print", lambda *words, **_: said.append(" ".join(map(str, words))))
        example.main()
    (out / "said.txt").write_text("\n".join(said))
    return out


@pytest.fixture(scope="module")
def source(out: Path) -> LatentSource:
    return LatentSource(out / "latents")


def test_the_loss_falls_and_samples_are_drawn(out: Path) -> None:
    said = (out / "said.txt").read_text()
    losses = [float(loss) for loss in re.findall(r"^step \d+: loss (\S+)$", said, re.MULTILINE)]
    assert len(losses) == 10
    assert losses[-1] < 0.9 * losses[0]
    with Image.open(out / "samples.png") as figure:
        assert figure.size == (8 + 2 * (3 * 64 + 8), 30 + len(KINDS) * (64 + 30))
        pixels = np.asarray(figure)
    for left in (8, 208):
        rows = [pixels[top : top + 64, left : left + 192] for top in (52, 146, 240)]
        assert all(row.std() > 10 for row in rows)


def test_its_cache_flips_as_its_images_do(out: Path, source: LatentSource) -> None:
    """Flips without signs must be far worse."""
    assert source.classes == KINDS
    assert len(source) == len(KINDS) * IMAGES
    samples = [source[i] for i in range(0, len(source), 3)]
    images = np.stack([read_image(out / "images" / f"{s['key']}.png") for s in samples])
    latents = np.stack([sample["latent"] for sample in samples])
    codec, mirrored = aura_jax.Codec(aura_jax.load("small")), flip_images(images, horizontal=True)
    signed, unsigned = (
        np.asarray(codec.decode(z, as_uint8=True))
        for z in (flip_latents(latents, horizontal=True), latents[:, :, ::-1])
    )
    assert decibels(signed, mirrored) > 26
    assert decibels(unsigned, mirrored) < 22


def test_it_trains_on_latents_and_on_flipped_ones(
    example: ModuleType, source: LatentSource
) -> None:
    batches = islice(example.batches(source), 16)
    seen = {latent.tobytes() for batch in batches for latent in batch["z"]}
    plain = [normalize(sample["latent"], source.statistics) for sample in source]
    flipped = [flip_latents(latent, horizontal=True) for latent in plain]
    assert seen == {latent.tobytes() for latent in plain + flipped}


def test_a_folder_that_exists_is_refused(
    example: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["flow_on_latents.py", "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as stopped:
        example.main()
    assert stopped.value.code == 2
    assert f"error: {tmp_path} exists already; give another --out" in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]


def decibels(levels: np.ndarray, images: np.ndarray) -> float:
    """PSNR of batches of images, one below the other."""
    return psnr(levels.reshape(-1, 64, 3), to_uint8(images).reshape(-1, 64, 3))

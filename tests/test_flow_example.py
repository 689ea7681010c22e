"""The example that trains on cached latents, with few pictures and steps."""

import re
import runpy
import subprocess
import sys
from itertools import islice
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

import aura_jax
from aura_jax.images.io import read_image
from aura_jax.images.transforms import to_uint8
from aura_jax.latents import LatentSource, normalize
from aura_jax.photo_latents import psnr
from aura_jax.symmetry import flip_images, flip_latents
from tests.conftest import ROOT

SCRIPT = ROOT / "examples" / "flow_on_latents.py"
KINDS, PICTURES, STEPS = ("ball", "block", "cone"), 8, 10


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder that the example wrote, and what it said."""
    out = tmp_path_factory.mktemp("flow") / "out"
    few = ["--out", str(out), "--pictures", str(PICTURES), "--steps", str(STEPS)]
    command = [sys.executable, str(SCRIPT), *few]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out, done.stdout


@pytest.fixture(scope="module")
def source(result: tuple[Path, str]) -> LatentSource:
    return LatentSource(result[0] / "latents")


def test_the_loss_falls_and_samples_are_drawn(result: tuple[Path, str]):
    out, said = result
    losses = [float(loss) for loss in re.findall(r"^step \d+: loss (\S+)$", said, re.MULTILINE)]
    assert len(losses) == 10
    assert losses[-1] < 0.9 * losses[0]
    with Image.open(out / "samples.png") as picture:
        assert picture.size == (8 + 2 * (8 * 64 + 8), 30 + len(KINDS) * (64 + 30))
        pixels = np.asarray(picture)
    assert all(pixels[top : top + 64, 528:1040].std() > 10 for top in (52, 146, 240))


def test_its_cache_flips_as_its_pictures_do(result: tuple[Path, str], source: LatentSource):
    """Beside flips without signs, which must be far worse."""
    assert source.classes == KINDS
    assert len(source) == len(KINDS) * PICTURES
    pictures = np.stack([read_image(picture_of(result[0], sample)) for sample in source])
    latents = np.stack([sample["latent"] for sample in source])
    vae, mirrored = aura_jax.load("small"), flip_images(pictures, horizontal=True)
    signed = aura_jax.decode(vae, flip_latents(latents, horizontal=True))
    unsigned = aura_jax.decode(vae, latents[:, :, ::-1])
    assert decibels(signed, mirrored) > 26
    assert decibels(unsigned, mirrored) < 22


def test_it_trains_on_latents_and_on_flipped_ones(source: LatentSource):
    batches = islice(runpy.run_path(str(SCRIPT))["batches"](source), 4)
    seen = {latent.tobytes() for batch in batches for latent in batch["z"]}
    plain = [normalize(sample["latent"], source.statistics) for sample in source]
    flipped = [flip_latents(latent, horizontal=True) for latent in plain]
    assert seen == {latent.tobytes() for latent in plain + flipped}


def test_a_folder_that_exists_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(sys, "argv", ["flow_on_latents.py", "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    assert stopped.value.code == 2
    assert f"error: {tmp_path} exists already; give another --out" in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]


def picture_of(out: Path, sample: dict[str, object]) -> Path:
    return out / "pictures" / f"{sample['key']}.png"


def decibels(a: jax.Array, b: np.ndarray) -> float:
    """PSNR of batches of images, one below the other."""
    return psnr(*(to_uint8(np.asarray(batch).reshape(-1, 64, 3)) for batch in (a, b)))

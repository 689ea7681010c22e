"""Codec as people hold it: traced, copied, pickled, printed, and with executables from a folder."""

import copy
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import aura_jax
from aura_jax import ArrayError, AuraError, Codec
from aura_jax.arrays import relative_error
from aura_jax.dtypes import FLOAT16, FLOAT32
from aura_jax.runtime import program
from aura_jax.runtime.placement import Placement
from convert.tolerances import FP32_PARITY, SUM_ORDER
from tests.conftest import ROOT
from tests.random_models import random_vae
from tests.recipes import ONE_LEVEL

IMAGES = np.random.default_rng(0).uniform(-1, 1, (2, 8, 12, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def codec() -> Codec:
    return Codec(random_vae(ONE_LEVEL))


@pytest.fixture(scope="module")
def latents(codec: Codec) -> np.ndarray:
    return np.asarray(codec.encode(IMAGES))


def check_latents(z: Any, latents: np.ndarray) -> None:
    assert relative_error(np.asarray(z), latents) <= SUM_ORDER


def test_transformations_of_jax_trace_it(codec: Codec, latents: np.ndarray) -> None:
    check_latents(jax.jit(codec.encode)(IMAGES), latents)
    check_latents(jax.vmap(lambda x: codec.encode(x[None])[0])(IMAGES), latents)
    _, stacked = jax.lax.scan(lambda _, x: (_, codec.encode(x[None])[0]), None, IMAGES)
    check_latents(stacked, latents)
    shape = jax.eval_shape(lambda z: codec.decode(z, as_uint8=True), latents)
    assert (shape.shape, shape.dtype) == (IMAGES.shape, np.uint8)


def test_constants_and_checks_inside_jit(codec: Codec, latents: np.ndarray) -> None:
    check_latents(jax.jit(lambda: codec.encode(IMAGES))(), latents)
    check_latents(jax.jit(lambda x: codec.encode(x, check=True))(IMAGES), latents)
    decoded = jax.eval_shape(lambda z: codec.decode(z, check=True), latents)
    assert decoded.shape == IMAGES.shape


def test_weights_in_numpy_arrays(latents: np.ndarray) -> None:
    check_latents(Codec(jax.tree.map(np.asarray, random_vae(ONE_LEVEL))).encode(IMAGES), latents)


def test_gradients_flow_through_it(codec: Codec, latents: np.ndarray) -> None:
    def loss(z: jax.Array) -> jax.Array:
        return jnp.square(codec.decode(z)).sum()

    gradient = np.asarray(jax.grad(loss)(latents))
    step = 1e-2 * gradient / np.linalg.norm(gradient)
    rise = float(loss(jnp.asarray(latents + step)) - loss(jnp.asarray(latents - step)))
    assert abs(rise / (2e-2 * np.linalg.norm(gradient)) - 1) < 0.01


def test_jit_can_be_disabled(codec: Codec, latents: np.ndarray) -> None:
    with jax.disable_jit():
        check_latents(codec.encode(IMAGES[:1]), latents[:1])


def test_copies_share_executables_but_not_the_guard(codec: Codec, latents: np.ndarray) -> None:
    for other in (copy.copy(codec), copy.deepcopy(codec)):
        other.warmup([IMAGES.shape], guard=True, decode=False)
        with pytest.raises(ArrayError, match="would compile"):
            other.encode(IMAGES[:, :4])
        assert other._programs is codec._programs
    check_latents(codec.encode(IMAGES), latents)
    assert not codec._shapes.guarded


def test_pickle_keeps_weights_and_settings(codec: Codec, latents: np.ndarray) -> None:
    other = pickle.loads(pickle.dumps(codec))
    check_latents(other.encode(IMAGES), latents)
    assert (other.config, other.dtype, other.precision) == (ONE_LEVEL, FLOAT32, "highest")


def test_pickle_of_another_platform_is_refused(codec: Codec) -> None:
    restore, (settings, folder, _, weights) = codec._programs.__reduce__()
    with pytest.raises(AuraError, match=r"made for the platform tpu, .* runs on cpu: make a codec"):
        restore(settings, folder, "tpu", weights)


def test_repr_is_one_line(codec: Codec, latents: np.ndarray) -> None:
    text = repr(codec)
    assert "\n" not in text
    assert re.search(r"Codec\(AuraConfig\(.*float32, 'highest', on .*cpu.*\(2, 8, 12, 3\)", text)


@pytest.mark.parametrize("value", [np.nan, np.inf, 255.0])
def test_values_that_are_no_images_are_refused(codec: Codec, value: float) -> None:
    wrong = IMAGES.copy()
    wrong[1, 2, 3, 0] = value
    for images, options in ((wrong, {}), (jnp.asarray(wrong), {"check": True})):
        with pytest.raises(ArrayError, match=r"range over .*: expected about \[-1, 1\]"):
            codec.encode(images, **options)


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_latents_that_decode_to_black_are_refused(
    codec: Codec, latents: np.ndarray, value: float
) -> None:
    wrong = latents.copy()
    wrong[1, 2, 3, 0] = value
    for z, options in ((wrong, {}), (jnp.asarray(wrong), {"check": True})):
        with pytest.raises(ArrayError, match="latents have NaN or infinite values"):
            codec.decode(z, **options)


def test_float16_is_finite_and_close(codec: Codec, latents: np.ndarray) -> None:
    half = Codec(random_vae(ONE_LEVEL), dtype=FLOAT16)
    z = np.asarray(half.encode(IMAGES), np.float32)
    assert np.isfinite(z).all()
    assert relative_error(z, latents) < 2e-3


def test_old_executables_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "EXECUTABLES", 2)
    place = Placement.of(random_vae(ONE_LEVEL))
    double = program.Program("numbers", lambda _, x: 2 * x, [], FLOAT32, place)
    for size in (1, 2, 1, 3):
        assert (np.asarray(double(np.ones(size, np.float32))) == 2).all()
    assert double.shapes == [(1,), (3,)]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Executables of a process that compiled them: those from a cache cannot be stored again."""
    folder = tmp_path_factory.mktemp("kept") / "executables"
    code = f"""
from tests.test_codec_use import IMAGES, ONE_LEVEL, Codec, random_vae
codec = Codec(random_vae(ONE_LEVEL))
codec.encode(IMAGES)
codec.save_executables({str(folder)!r})
"""
    environment = {**os.environ, "JAX_ENABLE_COMPILATION_CACHE": "false"}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True)
    return folder


def test_loaded_executables_are_not_stored_again(kept: Path, tmp_path: Path) -> None:
    other = Codec(random_vae(ONE_LEVEL), executables=kept)
    other.encode(IMAGES)
    with pytest.raises(AuraError, match=r"encode of shape .* save it where it was compiled"):
        other.save_executables(tmp_path / "again")


def test_kept_executables_are_not_compiled(
    kept: Path, latents: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    assert kept.stat().st_mode & 0o777 == 0o700
    other = Codec(random_vae(ONE_LEVEL), executables=kept)
    with jax.log_compiles():
        check_latents(other.encode(IMAGES), latents)
    assert "XLA compilation of jit(run)" not in caplog.text


def test_another_process_uses_kept_executables(
    kept: Path, latents: np.ndarray, tmp_path: Path
) -> None:
    """Where nothing can be compiled."""
    code = f"""
import jax, numpy as np
from tests.test_codec_use import IMAGES, ONE_LEVEL, Codec, program, random_vae
codec = Codec(random_vae(ONE_LEVEL), executables={str(kept)!r})
program.Program.lower = None
np.save({str(tmp_path / "z.npy")!r}, np.asarray(codec.encode(IMAGES)))
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    check_latents(np.load(tmp_path / "z.npy"), latents)


def test_executables_of_other_settings_or_damaged_ones_are_compiled_again(
    kept: Path, latents: np.ndarray, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damaged = tmp_path / "damaged"
    damaged.mkdir(mode=0o700)
    for file in kept.iterdir():
        (damaged / file.name).write_bytes(file.read_bytes()[:-1] + b"?")
    vae = random_vae(ONE_LEVEL)
    for other in (
        Codec(vae, executables=kept, precision="fast"),
        Codec(vae, executables=damaged),
    ):
        caplog.clear()
        with jax.log_compiles():
            check_latents(other.encode(IMAGES), latents)
        assert "XLA compilation of jit(run)" in caplog.text


def test_executables_of_images_are_not_taken_for_those_of_a_bucket(kept: Path) -> None:
    """A bucket's program takes a row and a column more, so other images may have its shape."""
    vae, images = random_vae(ONE_LEVEL), IMAGES[:, :-1, :-1]
    expected = np.asarray(aura_jax.encode(vae, images))
    codec = Codec(vae, buckets=[(7, 11)], executables=kept)
    assert relative_error(np.asarray(codec.encode(images)), expected) <= FP32_PARITY


def test_folders_that_others_can_write_are_refused(codec: Codec, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    for use in (
        codec.save_executables,
        lambda path: Codec(random_vae(ONE_LEVEL), executables=path),
    ):
        with pytest.raises(AuraError, match=r"other users have access to it; .* chmod 700"):
            use(tmp_path)
    with pytest.raises(AuraError, match="is a file; give a folder"):
        codec.save_executables(__file__)

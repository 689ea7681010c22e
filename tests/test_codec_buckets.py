"""One executable for every size: a codec with buckets computes what the model does without."""

import copy
import pickle
from collections.abc import Iterable
from typing import Any
from unittest.mock import Mock

import jax
import numpy as np
import pytest

import aura_jax
from aura_jax import ArrayError, AuraConfig, AuraEquiVAE, Codec, flip_images, flip_latents
from aura_jax.arrays import relative_error
from aura_jax.model.parameters import merge, split
from aura_jax.runtime import program
from aura_jax.symmetry import FLIPS
from convert.tolerances import FP32_BORDER, FP32_PARITY
from tests.conftest import TINY_CONFIG, Golden
from tests.random_models import random_vae
from tests.recipes import ONE_LEVEL, disturb

BUCKETS = [(24, 32), (64, 72)]
SIZES = [(61, 67), (24, 32), (3, 2), (23, 30), (40, 17)]


def disturbed(config: AuraConfig) -> AuraEquiVAE:
    """A model with biases that would show wherever padding is not masked."""
    graph, params = split(random_vae(config))
    return merge(graph, disturb(params))


@pytest.fixture(scope="module")
def vae() -> AuraEquiVAE:
    """A model of two levels."""
    return disturbed(TINY_CONFIG)


@pytest.fixture(scope="module")
def codec(vae: AuraEquiVAE) -> Codec:
    made = Codec(vae, buckets=BUCKETS)
    made.warmup([(2, *size) for size in BUCKETS])
    return made


@pytest.fixture(scope="module")
def small() -> Codec:
    """A codec of one level, for tests that hold for any number."""
    return Codec(disturbed(ONE_LEVEL), buckets=BUCKETS[:1])


def image(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height).uniform(-1, 1, (height, width, 3)).astype(np.float32)


def border(x: np.ndarray) -> np.ndarray:
    """The outermost pixels of an image or a latent."""
    return np.concatenate([x[0], x[-1], x[:, 0], x[:, -1]])


def averaged(run: Any, vae: AuraEquiVAE, x: np.ndarray, act: Any, undo: Any) -> np.ndarray:
    """The mean of the results over the flips, in programs of the plain model."""
    results = [undo(np.asarray(run(vae, act(x[None], **g))), **g) for g in FLIPS.values()]
    return np.mean(results, axis=0)[0]


def test_any_size_gives_what_the_model_gives(codec: Codec, vae: AuraEquiVAE) -> None:
    images = [image(*size) for size in SIZES]
    latents = codec.encode_many(images)
    decoded = codec.decode_many(latents)
    results = [*zip(images, latents, decoded, strict=True)]
    for x, z, y in results[:3]:  # smaller ones in each bucket, and one that fills it
        expected = np.asarray(aura_jax.encode(vae, x[None]))[0]
        back = np.asarray(aura_jax.decode(vae, z[None]))[0]
        for result, right in ((z, expected), (y, back)):
            assert result.shape == right.shape
            assert relative_error(result, right) <= FP32_PARITY
            assert relative_error(border(result), border(right)) <= FP32_BORDER
    x, z, y = (each[None] for each in results[1])  # alone, one that fills its bucket is not cut
    for result, right in ((codec.encode(x), z), (codec.decode(z), y)):
        assert relative_error(np.asarray(result), right) <= FP32_PARITY


def test_an_equivariant_model_is_averaged_over_the_flips_of_each_image(vae: AuraEquiVAE) -> None:
    """A side of 23 loses a row before it is flipped, as without buckets."""
    codec = Codec(aura_jax.equivariant(vae), buckets=BUCKETS[:1])
    images = [image(23, 30), image(24, 32)]
    for x, z in zip(images, latents := codec.encode_many(images), strict=True):
        whole = x[: len(x) // 2 * 2]
        expected = averaged(aura_jax.encode, vae, whole, flip_images, flip_latents)
        assert z.shape == expected.shape
        assert relative_error(z, expected) <= FP32_PARITY
    for z, y in zip(latents, codec.decode_many(latents), strict=True):
        expected = averaged(aura_jax.decode, vae, z, flip_latents, flip_images)
        assert relative_error(y, expected) <= FP32_PARITY


def test_golden_odd_sizes(golden_vae: AuraEquiVAE, golden: Golden) -> None:
    """Through four levels, some of which are padded by an odd number of pixels."""
    codec = Codec(golden_vae, buckets=BUCKETS[1:])
    z = np.asarray(codec.encode(golden["odd_images"]))
    decoded = np.asarray(codec.decode(golden["odd_latents"]))
    for result, name in ((z, "odd_latents"), (decoded, "odd_decoded")):
        assert relative_error(result, golden[name]) <= FP32_PARITY
        assert relative_error(border(result[0]), border(golden[name][0])) <= FP32_BORDER


def test_nothing_compiles_after_the_warmup(small: Codec, caplog: pytest.LogCaptureFixture) -> None:
    """One program for each bucket, part and conversion of levels, whatever comes later."""
    codec = copy.copy(small)
    codec.warmup(guard=True)
    shapes = {name: program.shapes for name, program in codec._programs.items()}
    assert {len(each) for each in shapes.values()} == {1}
    with jax.log_compiles(), caplog.at_level("WARNING"):
        for x in (image(23, 30), ((image(17, 31) + 1) * 127.5).astype(np.uint8)):
            latents = codec.encode(x[None])
            codec.decode(latents, as_uint8=True)
            codec.decode_many([*np.asarray(latents)], as_uint8=True)
    assert not [record for record in caplog.records if "ompil" in record.message]
    assert shapes == {name: program.shapes for name, program in codec._programs.items()}


def test_traced_copied_and_pickled(small: Codec) -> None:
    x = image(20, 17)[None]
    z = np.asarray(small.encode(x))
    for other in (copy.copy(small), pickle.loads(pickle.dumps(small))):
        assert relative_error(np.asarray(other.encode(x)), z) <= FP32_PARITY
    traced = jax.jit(small.encode)(x)
    assert relative_error(np.asarray(traced), z) <= FP32_PARITY


def test_batches_by_bucket_in_the_order_of_images(codec: Codec) -> None:
    images, seen = [image(*size) for size in SIZES], []

    def progress(batches: Iterable[list[int]]) -> Iterable[list[int]]:
        for batch in batches:
            seen.append(batch)
            yield batch

    latents = codec.encode_many(images, progress=progress)
    assert seen == [[0, 4], [1, 2], [3]]
    assert [z.shape[:2] for z in latents] == [(h // 2, w // 2) for h, w in SIZES]
    assert codec.encode_many([]) == []


def test_messages_speak_of_images_without_their_marks(
    codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "(2, 24, 32, 3)" in repr(codec)
    guarded = copy.copy(codec)
    guarded.warmup([(2, *size) for size in BUCKETS], guard=True)
    message = r"images of shape \(3, 24, 32, 3\): would compile, .*only .*\(2, 24, 32, 3\)"
    for x in (image(24, 32), np.zeros((23, 9, 3), np.uint8)):
        with pytest.raises(ArrayError, match=message):
            guarded.encode(np.stack(3 * [x]))
    exhausted = jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Ran out of memory")
    monkeypatch.setattr(program.Program, "lower", Mock(side_effect=exhausted))
    with pytest.raises(ArrayError, match=r"latents of shape \(5, 12, 16, 16\): needs"):
        codec.decode(np.zeros((5, 12, 15, 16), np.float32))


@pytest.mark.parametrize("buckets", [[], [(64, 61)], [(64,)], [(0, 64)]])
def test_sizes_that_are_no_buckets(vae: AuraEquiVAE, buckets: list[tuple]) -> None:
    with pytest.raises(ArrayError, match="bucket"):
        Codec(vae, buckets=buckets)


def test_what_does_not_fit_is_named(codec: Codec, vae: AuraEquiVAE) -> None:
    with pytest.raises(ArrayError, match=r"images of 65 × 8: larger than .*, 24 × 32, 64 × 72"):
        codec.encode(image(65, 8)[None])
    with pytest.raises(ArrayError, match=r"latents of 33 × 1: larger than .*, 12 × 16, 32 × 36"):
        codec.decode(np.zeros((1, 33, 1, 16), np.float32))
    with pytest.raises(ArrayError, match="images of several kinds"):
        Codec(vae).encode_many([image(16, 16), image(8, 8)])
    with pytest.raises(ArrayError, match="give the shapes"):
        Codec(vae).warmup()

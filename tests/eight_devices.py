"""Tests that need eight devices; see test_codec_mesh.py."""

import copy
import functools
import re
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

import aura_jax
from aura_jax import ArrayError, AuraEquiVAE, Codec, flip_images, flip_latents
from aura_jax.arrays import relative_error
from aura_jax.images.transforms import to_uint8
from aura_jax.latents import LatentSource
from aura_jax.latents.encoder import Encoder
from convert.tolerances import SUM_ORDER
from tests.cache_folder import SIZE, finished, local
from tests.conftest import TINY_CONFIG
from tests.photo_folder import write_photos
from tests.random_models import random_vae

IMAGES = np.random.default_rng(0).uniform(-1, 1, (8, 32, 12, 3)).astype(np.float32)
BATCH = PartitionSpec("data")
BOTH = PartitionSpec("data", "height")
KINDS = [AxisType.Auto, AxisType.Explicit]
CASES = [(BATCH, AxisType.Auto), (BOTH, AxisType.Explicit)]

type Shared = Callable[[PartitionSpec, AxisType], Codec]


@pytest.fixture(scope="module")
def vae() -> AuraEquiVAE:
    return random_vae(TINY_CONFIG, np.float32)


@pytest.fixture(scope="module")
def alone(vae: AuraEquiVAE) -> Codec:
    return Codec(vae)


@pytest.fixture(scope="module")
def shared(vae: AuraEquiVAE) -> Shared:
    """Codecs that share images in some way, each of which compiles once for all tests."""
    return functools.cache(lambda spec, axes: Codec(vae, sharding=over(spec, axes)))


@pytest.fixture(scope="module")
def latents(alone: Codec) -> np.ndarray:
    return np.asarray(alone.encode(IMAGES))


@pytest.fixture(scope="module")
def decoded(alone: Codec, latents: np.ndarray) -> np.ndarray:
    return np.asarray(alone.decode(latents))


def over(spec: PartitionSpec, axes: AxisType = AxisType.Auto) -> NamedSharding:
    return NamedSharding(mesh(axes), spec)


def mesh(axes: AxisType) -> Mesh:
    return jax.make_mesh((2, 4), ("data", "height"), (axes, axes))


def check(x: jax.Array, expected: np.ndarray, sharding: NamedSharding) -> None:
    assert x.sharding.is_equivalent_to(sharding, x.ndim)
    assert relative_error(np.asarray(x), expected) <= SUM_ORDER


@pytest.mark.parametrize(("spec", "axes"), CASES)
def test_a_codec_keeps_its_sharding(
    spec: PartitionSpec, axes: AxisType, shared: Shared, latents: np.ndarray, decoded: np.ndarray
) -> None:
    """For inputs of any kind: numpy, another device, another sharding, 8-bit levels."""
    sharding, codec = over(spec, axes), shared(spec, axes)
    elsewhere = jax.device_put(IMAGES, jax.devices()[5])
    for images in (IMAGES, elsewhere, jax.device_put(IMAGES, over(PartitionSpec("height")))):
        check(codec.encode(images), latents, sharding)
    z = codec.encode(IMAGES)
    check(codec.decode(z), decoded, sharding)
    levels = codec.decode(z, as_uint8=True)
    assert levels.sharding.is_equivalent_to(sharding, 4)
    assert np.abs(np.asarray(levels) - to_uint8(decoded).astype(int)).max() <= 1
    assert codec.encode(levels).sharding.is_equivalent_to(sharding, 4)
    few = codec.encode(IMAGES[:7])  # padded to a batch that divides, and cut
    assert relative_error(np.asarray(few), latents[:7]) <= SUM_ORDER


def test_buckets_split_the_batch(
    vae: AuraEquiVAE, alone: Codec, latents: np.ndarray, decoded: np.ndarray
) -> None:
    """Three smaller images are padded to four, as many as then fill the bucket."""
    sharding = over(BATCH, AxisType.Explicit)
    codec = Codec(vae, sharding=sharding, buckets=[(32, 16)])
    assert relative_error(np.asarray(codec.encode(IMAGES[:3])), latents[:3]) <= SUM_ORDER
    few = codec.decode_many([*latents[:2]])
    assert relative_error(np.stack(few), decoded[:2]) <= SUM_ORDER
    filling = np.pad(IMAGES[:4], ((0, 0), (0, 0), (0, 4), (0, 0)), mode="reflect")
    check(codec.encode(filling), np.asarray(alone.encode(filling)), sharding)


def test_columns_and_rows_of_buckets_stay_whole(vae: AuraEquiVAE) -> None:
    with pytest.raises(ArrayError, match="splits columns or channels"):
        Codec(vae, sharding=over(PartitionSpec(None, None, "height")))
    with pytest.raises(ArrayError, match="a sharding of rows"):
        Codec(vae, sharding=over(BOTH), buckets=[(32, 12)])


def test_averaged_models_commute_with_flips(vae: AuraEquiVAE, latents: np.ndarray) -> None:
    codec = Codec(aura_jax.equivariant(vae), sharding=over(BOTH))
    flipped = codec.decode(flip_latents(latents, horizontal=True, vertical=True))
    expected = flip_images(np.asarray(codec.decode(latents)), horizontal=True, vertical=True)
    check(flipped, expected, over(BOTH))


@pytest.mark.parametrize(("spec", "axes"), CASES)
def test_devices_share_the_work(
    spec: PartitionSpec, axes: AxisType, alone: Codec, shared: Shared, vae: AuraEquiVAE
) -> None:
    """Only keys and values are gathered, never images."""
    codec = shared(spec, axes)
    parts = codec._place.shards[0] * codec._place.shards[1]
    for name, shape in (("encode", IMAGES.shape), ("decode", (8, 16, 6, 16))):
        whole, share = (each._programs[name].compile(shape) for each in (alone, codec))
        flops = [(each.cost_analysis() or {})["flops"] for each in (whole, share)]
        assert flops[1] < 1.15 * flops[0] / parts  # at the edges of its rows a share computes more
        gathered = re.findall(r"= f32\[([\d,]+)\]\S* all-gather\(", share.as_text() or "")
        heads, tokens = vae.config.widths[-1] // 64, shape[1] * shape[2]
        tokens //= vae.config.downsampling**2 if name == "encode" else 1
        batch = 8 // codec._place.shards[0]
        expected = [f"{batch},{tokens},1,{heads},64"] * 2 if codec._place.shards[1] > 1 else []
        assert gathered == expected


@pytest.mark.parametrize(("spec", "axes"), CASES)
def test_plain_functions_keep_the_sharding(
    spec: PartitionSpec, axes: AxisType, vae: AuraEquiVAE, latents: np.ndarray, decoded: np.ndarray
) -> None:
    sharding = over(spec, axes)
    images = jax.device_put(IMAGES, sharding)
    z = aura_jax.encode(vae, images)
    check(z, latents, sharding)
    check(aura_jax.decode(vae, z), decoded, sharding)
    check(flip_images(images, vertical=True), flip_images(IMAGES, vertical=True), sharding)
    flags = np.arange(8) % 3 == 0
    check(flip_latents(z, horizontal=flags), flip_latents(latents, horizontal=flags), sharding)
    key = jax.random.key(0)
    check(
        aura_jax.perturb(key, z), np.asarray(aura_jax.perturb(key, jnp.asarray(latents))), sharding
    )


def test_rows_that_do_not_divide_are_refused(vae: AuraEquiVAE) -> None:
    codec = Codec(vae, sharding=over(PartitionSpec(None, "height")))
    message = r"30 rows do not divide into 4 parts of whole multiples of 2; .* multiple of 8"
    with pytest.raises(ArrayError, match=message):
        codec.encode(IMAGES[:, :30])
    with pytest.raises(ArrayError, match=r"latents .* 15 rows do not divide into 4 parts"):
        codec.decode(np.zeros((1, 15, 6, 16), np.float32))


def test_a_mesh_of_one_device(vae: AuraEquiVAE, latents: np.ndarray) -> None:
    one = jax.make_mesh((1, 1), ("data", "height"), devices=jax.devices()[:1])
    codec = Codec(vae, sharding=NamedSharding(one, BOTH))
    check(codec.encode(IMAGES), latents, NamedSharding(one, BOTH))


@pytest.mark.parametrize("axes", KINDS)
def test_a_batch_that_divides_is_padded_and_keeps_its_sharding(
    axes: AxisType, shared: Shared, latents: np.ndarray
) -> None:
    sharding = over(BATCH, axes)
    codec = copy.copy(shared(BATCH, axes))  # which has its own shapes
    codec.warmup([IMAGES.shape], decode=False)
    check(codec.encode(jax.device_put(IMAGES[:4], sharding)), latents[:4], sharding)


@pytest.mark.parametrize("axes", KINDS)
def test_a_mesh_that_is_set_for_other_work(
    axes: AxisType, vae: AuraEquiVAE, alone: Codec, latents: np.ndarray
) -> None:
    with jax.set_mesh(mesh(axes)):
        for codec in (alone, Codec(vae)):
            z = codec.encode(IMAGES)
            assert z.devices() == {jax.devices()[0]}
            assert relative_error(np.asarray(z), latents) <= SUM_ORDER


def test_a_codec_runs_where_the_weights_are(vae: AuraEquiVAE, latents: np.ndarray) -> None:
    """Whatever the default device is."""
    device = jax.devices()[3]
    codec = Codec(jax.device_put(vae, device))
    z = codec.encode(IMAGES)
    levels = codec.decode(jax.device_put(z, jax.devices()[1]), as_uint8=True)
    assert {*z.devices(), *levels.devices()} == {device}
    other = Codec(vae, sharding=SingleDeviceSharding(device))
    assert other.encode(IMAGES).devices() == {device}
    everywhere = over(PartitionSpec())
    copied = Codec(jax.device_put(vae, everywhere))
    check(copied.encode(IMAGES), latents, everywhere)


@pytest.mark.parametrize("axes", KINDS)
def test_inside_a_jit_over_a_mesh(
    axes: AxisType, vae: AuraEquiVAE, shared: Shared, latents: np.ndarray
) -> None:
    sharding, codec = over(BATCH, axes), shared(BATCH, axes)
    images = jax.device_put(IMAGES, sharding)
    with jax.set_mesh(mesh(axes)):
        check(codec.encode(images), latents, sharding)
        for encode in (codec.encode, lambda x: aura_jax.encode(vae, x)):
            traced = jax.jit(encode).lower(images)
            if axes is AxisType.Explicit:  # otherwise XLA alone decides how to share the work
                check(traced.compile()(images), latents, sharding)


def test_a_cache_is_encoded_by_all_devices(vae: AuraEquiVAE, alone: Codec, tmp_path: Path) -> None:
    """A batch of 3 is rounded up to 8. The int8 latents are those of one device."""
    weights, photos = tmp_path / "tiny", write_photos(tmp_path / "photos", 11, size=SIZE)
    aura_jax.save(vae, weights)
    shapes = []

    class Recording(Encoder):
        def __call__(self, images: np.ndarray) -> jax.Array:
            z = super().__call__(images)
            shapes.append([shard.data.shape[0] for shard in z.addressable_shards])
            return z

    alone.warmup([(8, SIZE, SIZE)], decode=False)
    kept = {}
    for name, encoder in {"shared": Recording, "alone": lambda *_: alone.encode}.items():
        finished(
            photos,
            tmp_path / name,
            weights,
            per_shard=8,
            batch=3,
            executor=local(encoder),
            storage_dtype="int8",
        )
        source = LatentSource(tmp_path / name)
        kept[name] = [source.stored(i) for i in range(11)]
    assert shapes == [[1] * 8, [3] * 8]  # the last three are padded to eight, and cut on each
    for (z, about), (expected, about_it) in zip(kept["shared"], kept["alone"], strict=True):
        assert about == about_it
        assert np.abs(z.astype(int) - expected).max() <= 1  # a step, where sums round differently

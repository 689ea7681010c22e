"""Plans of single layers, made by the compilers of devices that are not here.

`make plans` runs this file. Its name does not start with test_, so `make test` leaves it out: it
needs the compilers of the extra "plans".
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Unpack

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from jax import ShapeDtypeStruct
from jax.sharding import SingleDeviceSharding
from jaxtyping import Array

from aura_jax.dtypes import BFLOAT16
from aura_jax.errors import AuraError
from aura_jax.model.layers import AttnBlock, LayerOptions, ResnetBlock, Upsample
from aura_jax.runtime.placement import Placement
from aura_jax.runtime.plan import Plan, masked_plan, plan_for, with_dtype
from aura_jax.runtime.region import Region
from aura_jax.runtime.rewrite import _rewrite
from benchmarks.cycles import V5E, V6E, Chip, milliseconds
from benchmarks.hlo import CUDNN_ATTENTION, FREE, PALLAS, Operation, Program
from benchmarks.targets import TARGETS, devices_of

GRADIENT = "__cudnn$convBackwardInput"

upsample = partial(Upsample, 512)
block = partial(ResnetBlock, 256, 512)
attention = partial(AttnBlock, 128)  # fewer channels than tokens, so that the two are told apart

type Make = Callable[..., nnx.Module]


def two_blocks(**options: Unpack[LayerOptions]) -> nnx.Sequential:
    return nnx.Sequential(*(ResnetBlock(256, 256, **options) for _ in range(2)))


def decoder_middle(**options: Unpack[LayerOptions]) -> nnx.Sequential:
    blocks = (ResnetBlock(512, 512, **options) for _ in range(2))
    return nnx.Sequential(AttnBlock(512, **options), *blocks)


@pytest.fixture(scope="module", autouse=True)
def compilers() -> None:
    """Stop with one sentence if a compiler is missing."""
    jax.config.update("jax_enable_compilation_cache", False)  # it holds programs that can be run
    try:
        for target in ("h100", "v5e"):
            devices_of(target)
    except AuraError as error:
        pytest.exit(str(error), returncode=1)


def compiled(
    target: str,
    make: Make,
    shape: Sequence[int],
    *,
    plain: bool = False,
    padded: bool = False,
) -> Program:
    """Compile a layer in bfloat16: as Codec runs it, with buckets or without, or the model's."""
    devices = devices_of(target)
    place = Placement(TARGETS[target].sharding(devices) or SingleDeviceSharding(devices[0]))
    # The model's own convolutions keep float32 sums where JAX's default device is a CPU, as here.
    plan = Plan(with_dtype) if plain else plan_for(place, BFLOAT16, "highest")

    def build() -> nnx.Module:
        layer = make(**LayerOptions(dtype=BFLOAT16, param_dtype=BFLOAT16, rngs=nnx.Rngs(0)))
        return _rewrite(layer, BFLOAT16, masked_plan(plan) if padded else plan)

    def run(layer: Callable[[Array], Array], x: Array, sides: Array) -> Array:
        with Region(sides, sides, (x.shape[1], x.shape[2])).current():
            return layer(x)

    layer = jax.tree.map(
        lambda x: ShapeDtypeStruct(x.shape, x.dtype, sharding=place.weights), nnx.eval_shape(build)
    )
    x = ShapeDtypeStruct(shape, BFLOAT16, sharding=place.sharding)
    sides = ShapeDtypeStruct(shape[:1], jnp.int32, sharding=place.weights)
    function = jax.jit(run, out_shardings=place.sharding)
    executable = function.lower(layer, x, sides).compile({**TARGETS[target].options})
    return Program.parse(executable.as_text() or "")


def writes(program: Program, least: int) -> Sequence[Operation]:
    """The operations of the entry that write this many bytes or more."""
    return [each for each in program.entry if each.opcode not in FREE and each.bytes >= least]


def has_logits(program: Program, tokens: int) -> bool:
    """Whether an array has two axes of as many elements as there are tokens."""
    return any(
        sum(side >= tokens for side in sides) > 1
        for each in program.operations
        for _, sides in each.arrays
    )


def gathered(operations: Iterable[Operation]) -> int:
    """The bytes that a device gathers from the others."""
    return sum(each.bytes for each in operations if each.opcode.startswith("all-gather"))


def test_upsampling_on_a_tpu_takes_less_time_and_interleaves_nothing():
    shape = (1, 256, 256, 512)
    ours, plain = (compiled("v5e", upsample, shape, plain=is_plain) for is_plain in (False, True))
    assert milliseconds(ours, V5E) <= 0.8 * milliseconds(plain, V5E)
    assert ours.bytes_moved <= 0.6 * plain.bytes_moved


def test_upsampling_on_cuda_is_the_gradient_of_a_convolution():
    program = compiled("h100", upsample, (1, 128, 128, 512))
    assert program.count(GRADIENT) == 1
    assert program.kernel_layout_bytes == 0
    assert len(writes(program, 256 * 256 * 512 * 2)) == 2  # cuDNN's result, then with the bias


def test_norms_on_a_tpu_are_the_models():
    ours, plain = (
        compiled("v5e", block, (1, 64, 64, 256), plain=is_plain) for is_plain in (False, True)
    )
    assert milliseconds(ours, V5E) <= 1.001 * milliseconds(plain, V5E)


def test_masks_on_a_tpu_leave_its_parts_of_rows_together():
    """Masks that are repeated for channels take 1.6 times as long."""
    shape = (1, 128, 128, 256)
    ours, plain = (compiled("v5e", two_blocks, shape, padded=padded) for padded in (True, False))
    assert milliseconds(ours, V5E) <= 1.2 * milliseconds(plain, V5E)


@pytest.mark.parametrize(("target", "chip"), [("v5e", V5E), ("v6e", V6E)])
def test_masks_of_eight_images_cost_a_tpu_little(target: str, chip: Chip):
    """On a v6e a mask of pixels, repeated for channels, would take 1.83 times as long as none."""
    shape = (8, 64, 64, 256)
    ours, plain = (compiled(target, two_blocks, shape, padded=padded) for padded in (True, False))
    assert milliseconds(ours, chip) <= 1.1 * milliseconds(plain, chip)


def test_masks_on_a_tpu_are_made_anew_after_a_decoders_attention():
    """If both sides of it shared their masks, this would take 2.0 times as long as without them."""
    ours, plain = (
        compiled("v5e", decoder_middle, (1, 32, 32, 512), padded=padded) for padded in (True, False)
    )
    assert milliseconds(ours, V5E) <= 1.7 * milliseconds(plain, V5E)


def test_kernels_on_cuda_are_stored_as_cudnn_reads_them():
    ours, plain = (
        compiled("h100", block, (1, 64, 64, 256), plain=is_plain) for is_plain in (False, True)
    )
    kernels = 2 * (9 * 256 * 512 + 9 * 512 * 512 + 256 * 512)
    assert plain.kernel_layout_bytes == 2 * kernels  # read and written
    assert ours.kernel_layout_bytes == 0
    assert ours.bytes_moved <= plain.bytes_moved - 2 * kernels


@pytest.mark.parametrize(("target", "kernel"), [("v5e", PALLAS), ("h100", CUDNN_ATTENTION)])
@pytest.mark.parametrize("shape", [(1, 24, 40, 128), (2, 32, 32, 128)])
def test_attention_is_one_kernel_without_logits(
    target: str, kernel: str, shape: tuple[int, int, int, int]
):
    program = compiled(target, attention, shape)
    assert program.count(kernel) == 1
    assert not has_logits(program, shape[1] * shape[2])
    assert has_logits(compiled(target, attention, shape, plain=True), shape[1] * shape[2])


def test_attention_on_a_v6e_is_one_kernel_if_it_is_large():
    program = compiled("v6e", attention, (1, 64, 80, 128))
    assert program.count(PALLAS) == 1
    assert not has_logits(program, 64 * 80)
    assert compiled("v6e", attention, (1, 32, 32, 128)).count(PALLAS) == 0


def test_attention_on_a_mesh_gathers_keys_and_values_alone():
    program = compiled("v5e-8", attention, (1, 24, 40, 128))
    assert program.count(PALLAS) == 1
    assert 0 < gathered(program.operations) <= 2 * 24 * 40 * 128 * 2


@pytest.mark.parametrize("make", [upsample, block])
def test_convolutions_on_a_mesh_gather_no_rows(make: Make):
    program = compiled("v5e-8", make, (1, 64, 64, 512 if make is upsample else 256))
    assert gathered(program.operations) == 0
    assert any(each.opcode.startswith("collective-permute") for each in program.operations)

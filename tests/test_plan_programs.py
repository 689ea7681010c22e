"""Reading what compilers plan from the text of the programs they made."""

import jax
import jax.numpy as jnp
import pytest

from benchmarks.cycles import V5E, V6E, milliseconds
from benchmarks.hlo import Program

# Shortened from programs that XLA of jax 0.12 compiled for a TPU v5e and an H100.
TPU_PROGRAM = """\
HloModule jit_run, is_scheduled=true

%fused_computation (param_0: bf16[3,3,64,64]) -> bf16[3,3,64,64] {
  %param_0 = bf16[3,3,64,64]{3,2,1,0:T(8,128)(2,1)} parameter(0)
  ROOT %reverse.1 = bf16[3,3,64,64]{3,2,1,0:T(8,128)(2,1)} reverse(%param_0), dimensions={0,1}
}

%wide.region_0 (wide.arg: (s32[], bf16[28,34,64])) -> (s32[], bf16[28,34,64]) {
  %wide.arg = (s32[]{:T(128)}, bf16[28,34,64]{2,1,0:T(8,128)(2,1)S(1)}) parameter(0)
  ROOT %fusion.9 = (s32[], bf16[28,34,64]) fusion(%wide.arg), calls=%x, \
backend_config={"window_config":{"estimated_cycles":"15000"}}
}

%wide.region_3 (wide.arg_tuple: (s32[], bf16[28,34,64])) -> pred[] {
  %constant.44 = s32[]{:T(128)} constant(28)
  %wide.arg_tuple = (s32[]{:T(128)}, bf16[28,34,64]{2,1,0:T(8,128)(2,1)S(1)}) parameter(0)
  %get-tuple-element.34 = s32[]{:T(128)} get-tuple-element(%wide.arg_tuple), index=0
  ROOT %lt.0 = pred[]{:T(512)} compare(%get-tuple-element.34, %constant.44), direction=LT
}

ENTRY %main.1 (weights_0_.1: bf16[3,3,64,64], x.1: bf16[1,32,32,64]) -> bf16[1,32,32,64] {
  %weights_0_.1 = bf16[3,3,64,64]{3,2,1,0:T(8,128)(2,1)} parameter(0), metadata={op_name="weights"}
  %x.1 = bf16[1,32,32,64]{3,2,1,0:T(8,128)(2,1)} parameter(1)
  %fusion.1 = bf16[3,3,64,64]{2,3,1,0:T(8,128)(2,1)S(1)} fusion(%weights_0_.1), kind=kLoop, \
calls=%fused_computation, backend_config={"window_config":{"estimated_cycles":"1500000"}}
  %fusion.2 = bf16[1,32,32,64]{3,2,1,0:T(8,128)(2,1)} fusion(%x.1, %fusion.1), kind=kOutput
  %tuple.19 = (s32[]{:T(128)}, bf16[28,34,64]{2,1,0:T(8,128)(2,1)S(1)}) tuple(%a, %b)
  %while = (s32[]{:T(128)}, /*index=1*/bf16[28,34,64]{2,1,0:T(8,128)(2,1)S(1)}) while(%tuple.19), \
condition=%wide.region_3, body=%wide.region_0, metadata={op_name="jit(attention)/while"}
  ROOT %flash_attention.1 = bf16[1,32,32,64]{3,2,1,0:T(8,128)(2,1)S(1)} custom-call(%fusion.2), \
custom_call_target="tpu_custom_call", backend_config={"custom_call_config":{"body":"TUz",\
"cost_estimate":{"flops":"985000000000","transcendentals":"20","bytes_accessed":"819000"}}}
}
"""
CUDA_PROGRAM = """\
HloModule jit__decode, is_scheduled=true

%wrapped_transpose_computation (param_0.1: bf16[3,3,64,128]) -> bf16[128,3,3,64] {
  %param_0.1 = bf16[3,3,64,128]{3,2,1,0} parameter(0)
  ROOT %transpose.1 = bf16[128,3,3,64]{3,2,1,0} transpose(%param_0.1), dimensions={3,0,1,2}
}

ENTRY %main.7 (vae_0.1: bf16[128], vae_1.1: bf16[3,3,64,128], x.1: f32[1,8,8,64]) -> bf16[8,8] {
  %vae_0.1 = bf16[128]{0} parameter(0), metadata={op_name="vae.decoder.conv_in.bias"}
  %vae_1.1 = bf16[3,3,64,128]{3,2,1,0} parameter(1)
  %x.1 = f32[1,8,8,64]{3,2,1,0} parameter(2)
  %wrapped_convert = bf16[1,8,8,64]{3,2,1,0} fusion(%x.1), kind=kLoop, calls=%convert
  %wrapped_transpose = bf16[128,3,3,64]{3,2,1,0} fusion(%vae_1.1), kind=kInput, \
calls=%wrapped_transpose_computation
  %cudnn-conv.1 = (bf16[1,8,8,128]{3,2,1,0}, u8[0]{0}) custom-call(%wrapped_convert, \
%wrapped_transpose, %vae_0.1), custom_call_target="__cudnn$convBiasActivationForward"
  %get-tuple-element.1 = bf16[1,8,8,128]{3,2,1,0} get-tuple-element(%cudnn-conv.1), index=0
  ROOT %attention.1 = (bf16[1,8,8,128]{3,2,1,0}, u8[0]{0}) custom-call(%get-tuple-element.1), \
custom_call_target="__cudnn$fmhaSoftmax"
}
"""


def test_time_on_a_tpu_counts_the_trips_of_loops_and_kernels_by_their_own_estimate():
    program = Program.parse(TPU_PROGRAM)
    kernel = 985e9 / (197e12 / 2)  # heads of 64 channels fill half of a v5e's matrix units
    assert milliseconds(program, V5E) == pytest.approx(1 + 28 * 0.01 + 1e3 * kernel)
    known = TPU_PROGRAM.replace("condition=", '{"known_trip_count":{"n":"2"}}, condition=')
    assert milliseconds(Program.parse(known), V5E) == pytest.approx(1 + 2 * 0.01 + 1e3 * kernel)
    assert milliseconds(program, V6E) < milliseconds(program, V5E)


def test_operations_of_a_tpu_program_are_read_with_their_layouts():
    program = Program.parse(TPU_PROGRAM)
    assert program.attention == "Pallas"
    assert [each.opcode for each in program.entry[2:]] == [
        *("fusion", "fusion", "tuple", "while", "custom-call")
    ]
    assert program.named["while"].arrays == [(4, []), (2, [28, 34, 64])]
    assert program.kernel_layout_bytes == 2 * (2 * 3 * 3 * 64 * 64)  # the reversed kernel


def test_bytes_of_a_cuda_program_are_those_of_its_operands_and_results():
    program = Program.parse(CUDA_PROGRAM)
    kernel, image, out = 2 * 9 * 64 * 128, 8 * 8 * 64, 2 * 8 * 8 * 128
    convolution = 2 * image + kernel + 2 * 128 + out
    assert program.kernel_layout_bytes == 2 * kernel  # and not the image, which is converted
    assert program.bytes_moved == (4 + 2) * image + 2 * kernel + convolution + 2 * out
    assert program.attention == "cuDNN"
    assert program.count("__cudnn$fmhaSoftmax") == 1


def test_a_program_of_this_machine_is_read_too():
    x = jnp.ones((8, 256))
    compiled = jax.jit(lambda w, x: jnp.exp(w) * x).lower(x, x).compile()
    program = Program.parse(compiled.as_text() or "")
    assert program.bytes_moved == 3 * x.nbytes
    assert program.attention == "plain"

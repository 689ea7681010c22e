"""What the command lets users choose from; apart, since it costs no import of Grain."""

from typing import Literal, get_args

type NumberType = Literal["bf16", "float32", "int8", "float8_e4m3fn"]
type ComputeType = Literal["bf16", "float32"]
type Format = Literal["arrayrecord", "webdataset"]
type EngineName = Literal["local", "ray"]

NUMBER_TYPES: tuple[NumberType, ...] = get_args(NumberType.__value__)
COMPUTE_TYPES: tuple[ComputeType, ...] = get_args(ComputeType.__value__)
FORMATS: tuple[Format, ...] = get_args(Format.__value__)

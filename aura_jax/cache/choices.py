"""What the command lets users choose from; apart, since it costs no import of Grain."""

from typing import Literal

type NumberType = Literal["bf16", "float32", "int8", "float8_e4m3fn"]
type ComputeType = Literal["bf16", "float32"]
type Format = Literal["arrayrecord", "webdataset"]
type EngineName = Literal["local", "ray"]

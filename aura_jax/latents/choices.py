"""The choices that a cache offers, apart from `spec` since the command's help needs no numpy."""

from typing import Literal

type Format = Literal["arrayrecord", "webdataset"]
type ExecutorName = Literal["local", "ray"]

STORAGE_NAMES = ("bfloat16", "float32", "int8")
COMPUTE_NAMES = ("bfloat16", "float32")

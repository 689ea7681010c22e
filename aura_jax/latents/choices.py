"""The choices of a cache's options, which the command's help lists without importing numpy."""

from typing import Literal

type Format = Literal["arrayrecord", "webdataset"]
type ExecutorName = Literal["local", "ray"]

STORAGE_NAMES = ("bfloat16", "float32", "int8")
COMPUTE_NAMES = ("bfloat16", "float32")

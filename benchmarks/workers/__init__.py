"""Processes that each run one variant of the model, and the protocol to control them.

- `process`: the benchmark's handle of a worker
- `server`: the loop and the clocks that both workers share
- `torch_worker`: runs PyTorch, which only this module imports, and computes errors
- `jax_worker`: runs `aura_jax.Codec` or the plain model
- `calls`: compiles both; `dispatch` measures the cost of a codec's calls
- `golden_errors`, `training`: what `jax_worker` measures besides encode and decode
- `pool`: workers that serve many cases
"""

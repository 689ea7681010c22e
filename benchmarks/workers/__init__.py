"""Processes that each run one variant of the model, and the protocol to control them.

- `process`: the benchmark's handle of a worker
- `server`: the loop and the clocks that both workers share
- `torch_worker`: runs PyTorch, which only this module imports, and computes errors
- `jax_worker`: runs `aura_jax.Codec`; `dispatch` measures the cost of its calls
"""

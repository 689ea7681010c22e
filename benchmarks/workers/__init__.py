"""Processes that each run one variant of the model, and the way to speak to them.

- `process`: a worker as the benchmark holds it
- `server`: what both workers do alike
- `torch_worker`: PyTorch; the only module that imports it, and the judge of accuracy
- `jax_worker`: `aura_jax.Codec`, with the cost of its calls in `dispatch`
"""

"""Convert checkpoints between PyTorch and JAX, and prove that both models agree."""

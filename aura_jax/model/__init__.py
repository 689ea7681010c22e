"""The autoencoder as Flax modules, named as in the PyTorch reference."""

"""The autoencoder's modules, named as in the PyTorch reference."""

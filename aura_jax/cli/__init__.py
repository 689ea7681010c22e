"""The commands of `aura-jax`."""

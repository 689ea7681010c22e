"""Run the command aura-jax as `python -m aura_jax`."""

from aura_jax.cli.start import main

if __name__ == "__main__":
    main()

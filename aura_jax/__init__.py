"""AuraEquiVAE in JAX: an image autoencoder whose latents flip with the image.

`__init__.pyi` lists the public names. Each is imported on first use, so that importing the package
is cheap and readers of cached latents need neither JAX nor Flax.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, _, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])

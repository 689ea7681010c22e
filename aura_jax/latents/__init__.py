"""Read cached latents: encode a data set once, and flip its latents for free while training.

`aura-jax cache make` makes a cache; this package reads it, and `__init__.pyi` lists its public
names. None of them imports JAX, Flax or Grain, so they run in the workers of any loader.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

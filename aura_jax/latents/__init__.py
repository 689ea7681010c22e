"""Read a data set of cached latents, and flip and normalize them while training.

`aura-jax cache make` makes a cache. `__init__.pyi` lists the public names that read it.
None of them imports JAX, Flax or Grain, so they run in the workers of any loader.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

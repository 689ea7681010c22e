"""Cached latents: encode a data set once, flip its latents for free while training.

`aura-jax cache make` makes a cache; this package reads it. `__init__.pyi` lists the public names.
Reading, flipping and normalizing need numpy alone besides the file format's own library.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

"""Measure how well a model reconstructs images, for the report of `aura-jax evaluate`.

`__init__.pyi` lists the public names.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

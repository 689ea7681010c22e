"""Train flip-equivariant autoencoders: losses, data, a jitted train step and the loop.

This package needs `pip install "aura-jax[train]"`. `__init__.pyi` lists the public names.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

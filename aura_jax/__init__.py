"""AuraEquiVAE in JAX: an image autoencoder whose latents flip with the image.

`__init__.pyi` lists the public names. Each is imported on first use, so that importing the package
is cheap and readers of cached latents need neither JAX nor Flax.
"""

__version__ = "0.1.0"


def __getattr__(name: str):
    load, _, names = _stub()  # `load` caches each name
    return names if name == "__all__" else load(name)


def __dir__() -> list[str]:
    return sorted([*_stub()[2], "__version__"])


def _stub():
    # Late, so that cli.start can answer a Ctrl-C before anything else is imported.
    from lazy_loader import attach_stub

    return attach_stub(__name__, __file__)
